# The compiled core, from csrc/bindings.cpp. All arguments are positional. Functions write their results into tensors
# that the caller has allocated. They do not check shapes and most dtypes: shiftbench/ops does, and the engine passes
# only what it has computed itself. Shape suffixes: docs/glossary.md.
from typing import Any

from torch import Tensor

has_cuda: bool  # whether the core was built for GPUs
# The submodule that csrc/cuda/bindings.cpp defines. Only cores with kernels for GPUs have it: those built for GPUs, and
# those that emulate the kernels on a CPU for tests. Only shiftbench/ops/cuda/ uses it.
cuda: Any

# How many threads the core uses at most, where a function has no argument `threads`. norm_derivative, rotary_derivative
# and activation_derivative compute on the calling thread.
def set_threads(count: int) -> None: ...
def get_threads() -> int: ...
def instructions() -> list[str]: ...  # the instruction sets that the core has and this CPU can run, the fastest first
def is_intel() -> bool: ...  # whether the CPU is made by Intel; False on CPUs other than x86-64
def get_instructions() -> str: ...  # the name of the instruction set in use

# Makes the instruction set of this name the one in use; ValueError for a name that is not among instructions().
def set_instructions(name: str) -> None: ...

# Importance of prompt tokens; shiftbench/ops/importance.py says what is computed. importance_levels and
# importance_density_from_grad return the lowest flat index, in importance_PR, of an importance that is not finite;
# importance_density that of a level, in level_PR, that is negative or not finite. They return -1 if there is none. If
# there is one, levels and densities are undefined.
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

# Writes the scores and the words of each direction's K best words into value_CK and index_CK (shiftbench/ops/topk.py).
# Returns three indices: the first row of embedding_VD whose norm is not finite, the first row of direction_CD whose
# norm is not finite, and the first direction whose scores may overflow the dtype of value_CK. At most one of them is
# not -1; all are -1 if nothing is refused. If something is, value_CK and index_CK are undefined.
def vocab_topk(
    embedding_VD: Tensor, direction_CD: Tensor, value_CK: Tensor, index_CK: Tensor
) -> tuple[int, int, int]: ...

# The engine's stages, called by engine/core_calls.py; csrc/shiftbench/stages.h states formulas and shapes. All tensors
# are contiguous and of one dtype, float32 or float64, but for `position`, `work_items` and `at_2N`, which are int64.
# Derivatives are tangents, or cotangents if `cotangent` is True. They are the rows of matrices, and `position` holds
# the token position of each row. `threads` is the number of threads to use.

# The derivative of a norm, written into `out`. hat and rho are what the forward pass kept (norm_forward).
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

# The derivative of the rotary position embedding, written over x [rows, heads, width]; `inverse` is for cotangents.
def rotary_derivative(x: Tensor, cosine: Tensor, sine: Tensor, position: Tensor, inverse: bool) -> None: ...

# The derivative of a feed-forward network's activation. The slopes are the activation's partial derivatives by `up` and
# by `gate`. Tangents: reads up and gate, and writes the activation's tangent over `up`. Cotangents: reads the
# activation's cotangent from `up`, and writes those of up and gate over `up` and `gate`. gate and gate_slope are None
# for a network without a gate.
def activation_derivative(
    up: Tensor, gate: Tensor | None, up_slope: Tensor, gate_slope: Tensor | None, position: Tensor, cotangent: bool
) -> None: ...

# The derivative of a gated network's activation through the two projections before it, in one product with merged
# weights, written into `out`. gate and up are the weights [inner width, width]; x holds tangents of the network's
# input, or cotangents of its activation.
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

# out = x @ weight.T for few rows x: [rows, depth], weight: [outputs, depth].
def small_batch_linear(x: Tensor, weight: Tensor, out: Tensor) -> None: ...

# The derivative of causal attention. kept: what the forward pass kept, the tensors query, key, value, mixed,
# probability and slope. rows: the derivatives of query, key, value and mixed; for tangents the last is written, for
# cotangents the first three. A work item is one derivative. work_items: one table for the rows of queries, one for
# those of keys and values, one for those of mixed. Each is int64 [3, number of work items]: the first position at which
# the work item has a row, one more than the last, and the index of its first row.
def attention_derivative(
    kept: list[Tensor],
    scale: float,
    rows: list[Tensor],
    work_items: list[Tensor],
    cotangent: bool,
    threads: int,
) -> None: ...

# Attention of a decoding step with keys and values from a KV cache, written into out_NHE. key_KTE and value_KTE are the
# cache. at_2N: for each row of query_NHE, the first position of the cache that it attends to, and one more than the
# last. scale: the factor of query . key. cap: the bound of the logits, or 0 for none.
def cached_attention(
    query_NHE: Tensor,
    key_KTE: Tensor,
    value_KTE: Tensor,
    at_2N: Tensor,
    out_NHE: Tensor,
    scale: float,
    cap: float,
) -> None: ...

# A norm, written into `out`; hat receives the normalised x without gain and bias, rho the factor by which each row was
# multiplied. `centred` subtracts the row's mean first (LayerNorm); else the norm is RMSNorm.
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

# Splits x [rows, heads * width] into heads, written into out [heads, rows, width], and rotates them by the angles whose
# cosines and sines are given, [rows, width]. Both are None where heads are not rotated.
def split_heads(x: Tensor, cosine: Tensor | None, sine: Tensor | None, out: Tensor, threads: int) -> None: ...

# Causal attention: writes the probabilities, the heads' outputs (`mixed`) and, if cap is not 0, the slopes, which are
# the probabilities times the derivative of the cap. slope may be None if cap is 0. window: how many positions a query
# attends to, up to its own; 0 for all. cap: the bound of the logits, or 0 for none.
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

# Writes the mean of each stratum in each resample into mean_SG. value_N: the values of one stratum after those of
# another. length_G: how many values each stratum has.
def bootstrap(value_N: Tensor, length_G: list[int], seed: int, mean_SG: Tensor) -> None: ...

# Finds the pairs of words that co-occur (csrc/shiftbench/word_pairs.h), one class for each dtype of unit_VG. `error` is
# a bound on the error of the approximate cosines that scan() gets, one block of the V x V matrix at a time; the block's
# first element belongs to the words first_row and first_col. Blocks of the same rows must come in ascending order of
# their columns; those below the diagonal are not needed. After all blocks, size() is the number of entries (word,
# word that it co-occurs with), and write() writes them as shiftbench.ops.cooccurrence returns them.
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

# Finds the word pairs of neuron pairs (csrc/shiftbench/word_pairs.h), one class for each dtype of cosine_N, when it is
# constructed. first_V, other_N and cosine_N are what shiftbench.ops.cooccurrence returns; query_CK and key_CK hold each
# neuron pair's words, and query_sign_CK and key_sign_CK the signs of their activations, int8. first_bad_query() and
# first_bad_key() return the lowest flat index, in query_CK and in key_CK, of a word that is refused, or -1. If neither
# refuses a word, size() is the number of word pairs, and write() writes them as shiftbench.ops.word_pairs returns them.
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
