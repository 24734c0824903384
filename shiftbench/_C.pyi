# The compiled core, from csrc/bindings.cpp. All arguments are positional. Functions write their results into tensors
# that the caller has allocated, and check nothing: shiftbench/ops and the engine do. Functions that return int
# return the lowest flat index of an element that they refuse, or -1; if it is not -1, their results are undefined.
from typing import Any

from torch import Tensor

has_cuda: bool  # whether the core was built for GPUs
# csrc/cuda/bindings.cpp; absent from cores without GPU kernels, emulated or not. Only shiftbench/ops/cuda/ uses it.
cuda: Any

def set_threads(count: int) -> None: ...
def get_threads() -> int: ...
def instructions() -> list[str]: ...  # the instruction sets that this CPU can run, the fastest first
def is_intel() -> bool: ...  # whether the CPU is made by Intel
def get_instructions() -> str: ...  # the instruction set in use
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

# Returns (row of embedding_VD, row of direction_CD, direction whose scores overflow) that is refused, each -1 if none
# is.
def vocab_topk(
    embedding_VD: Tensor, direction_CD: Tensor, value_CK: Tensor, index_CK: Tensor
) -> tuple[int, int, int]: ...

# The engine's stages, called by engine/core_calls.py; csrc/shiftbench/stages.h states formulas and shapes. Derivatives,
# which are tangents or cotangents, are the rows of matrices; position holds each row's token position. Functions that
# have no `out` write their results in place.
def norm_derivative(
    derivative: Tensor,
    hat: Tensor,
    rho: Tensor,
    gain: Tensor,
    position: Tensor,
    out: Tensor,
    centred: bool,
    cotangent: bool,
) -> None: ...
def rotary_derivative(x: Tensor, cosine: Tensor, sine: Tensor, position: Tensor, inverse: bool) -> None: ...
def activation_derivative(
    up: Tensor, gate: Tensor | None, up_slope: Tensor, gate_slope: Tensor | None, position: Tensor, cotangent: bool
) -> None: ...
def merged_projection_derivative(
    x: Tensor,
    gate: Tensor,
    up: Tensor,
    gate_slope: Tensor,
    up_slope: Tensor,
    position: Tensor,
    out: Tensor,
    cotangent: bool,
    threads: int,
) -> None: ...
def small_batch_linear(x: Tensor, weight: Tensor, out: Tensor) -> None: ...

# kept: query, key, value, mixed, probability, slope. rows: query, key, value, mixed. work_items: the work items of
# queries, of keys and values, and of mixed, each int64 [3, work items]: starts, stops, offsets.
def attention_derivative(
    kept: list[Tensor],
    scale: float,
    rows: list[Tensor],
    work_items: list[Tensor],
    cotangent: bool,
    threads: int,
) -> None: ...

# at_2N: for each row the first position of the KV cache that it attends to, and one more than the last.
def cached_attention(
    query_NHE: Tensor,
    key_KTE: Tensor,
    value_KTE: Tensor,
    at_2N: Tensor,
    out_NHE: Tensor,
    scale: float,
    cap: float,
) -> None: ...
def norm_forward(
    x: Tensor,
    gain: Tensor,
    bias: Tensor | None,
    hat: Tensor,
    rho: Tensor,
    out: Tensor,
    eps: float,
    centred: bool,
    threads: int,
) -> None: ...
def split_heads(x: Tensor, cosine: Tensor | None, sine: Tensor | None, out: Tensor, threads: int) -> None: ...
def causal_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    probability: Tensor,
    slope: Tensor | None,
    mixed: Tensor,
    window: int,
    scale: float,
    cap: float,
    threads: int,
) -> None: ...
def bootstrap(value_N: Tensor, length_G: list[int], seed: int, mean_SG: Tensor) -> None: ...

# Finds the pairs of words that co-occur; csrc/shiftbench/word_pairs.h. One class for each dtype of unit_VG.
class Cooccurrence32:
    def __init__(self, unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor, error: float) -> None: ...
    def scan(self, score_VV: Tensor, first_row: int, first_col: int) -> None: ...
    def size(self) -> int: ...
    def write(self, first_V: Tensor, other_N: Tensor, cosine_N: Tensor) -> None: ...

class Cooccurrence64:
    def __init__(self, unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor, error: float) -> None: ...
    def scan(self, score_VV: Tensor, first_row: int, first_col: int) -> None: ...
    def size(self) -> int: ...
    def write(self, first_V: Tensor, other_N: Tensor, cosine_N: Tensor) -> None: ...

# Finds the word pairs of neuron pairs; csrc/shiftbench/word_pairs.h. One class for each dtype of cosine_N.
class WordPairs32:
    def __init__(
        self,
        first_V: Tensor,
        other_N: Tensor,
        cosine_N: Tensor,
        query_CK: Tensor,
        query_sign_CK: Tensor,
        key_CK: Tensor,
        key_sign_CK: Tensor,
    ) -> None: ...
    def first_bad_query(self) -> int: ...
    def first_bad_key(self) -> int: ...
    def size(self) -> int: ...
    def write(self, neuron_N: Tensor, query_N: Tensor, key_N: Tensor, cosine_N: Tensor) -> None: ...

class WordPairs64:
    def __init__(
        self,
        first_V: Tensor,
        other_N: Tensor,
        cosine_N: Tensor,
        query_CK: Tensor,
        query_sign_CK: Tensor,
        key_CK: Tensor,
        key_sign_CK: Tensor,
    ) -> None: ...
    def first_bad_query(self) -> int: ...
    def first_bad_key(self) -> int: ...
    def size(self) -> int: ...
    def write(self, neuron_N: Tensor, query_N: Tensor, key_N: Tensor, cosine_N: Tensor) -> None: ...
