# shiftbench's compiled core, from csrc/bindings.cpp. Functions that return int return the flat index of the first
# number they refuse, or -1.
from torch import Tensor

has_cuda: bool
device_count: int

def set_threads(count: int) -> None: ...
def get_threads() -> int: ...
def instructions() -> list[str]: ...  # that this CPU can run, the fastest first
def get_instructions() -> str: ...
def set_instructions(name: str) -> None: ...
def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor) -> None: ...
def importance_levels(importance_PR: Tensor, level_PR: Tensor, levels: int) -> int: ...
def importance_density(level_PR: Tensor, density_P: Tensor, cutoff: int, p: float) -> int: ...
def importance_density_from_grad(
    grad_RPD: Tensor,
    embedding_PD: Tensor,
    importance_PR: Tensor,
    level_PR: Tensor,
    density_P: Tensor,
    levels: int,
    cutoff: int,
    p: float,
) -> int: ...

# (row of embedding_VD, row of direction_CD, direction whose scores overflow) that is refused, each -1 if none is.
def vocab_topk(
    embedding_VD: Tensor, direction_CD: Tensor, value_CK: Tensor, index_CK: Tensor
) -> tuple[int, int, int]: ...

# The engine's stages, unchecked (engine/core.py): on rows of many derivatives, in place or in out.
def norm_rows(
    d: Tensor,
    hat: Tensor,
    rho: Tensor,
    gain: Tensor,
    position: Tensor,
    out: Tensor,
    centred: bool,
    cotangent: bool,
    add: bool,
) -> None: ...
def rotate_rows(x: Tensor, cosine: Tensor, sine: Tensor, position: Tensor, back: bool) -> None: ...
def gate_rows(
    up: Tensor, gate: Tensor | None, up_slope: Tensor, gate_slope: Tensor | None, position: Tensor, cotangent: bool
) -> None: ...
def attention_rows(
    kept: list[Tensor], scale: float, rows: list[Tensor], stretches: list[Tensor], cotangent: bool
) -> None: ...
