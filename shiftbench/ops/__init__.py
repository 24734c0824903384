"""The door to the compiled core: each function checks its arguments, allocates its results, and calls `_C`.

    importance.py  gradient times input, levels, densities
    topk.py        the words nearest to directions
    pairs.py       co-occurring words, word pairs of neuron pairs
    resampling.py  bootstrap means
    operators.py   what all of them share
    cuda/          the same functions on a GPU, a file an op as here

Tensors in, tensors out; no files, no models. Rows may lie anywhere (views and slices are read in place). Nothing here
is differentiable, and no result depends on the number of threads or on the instructions that the CPU has. Tensors on a
GPU are computed there and stay there, where the core was built for it. The results are the same bytes as on a CPU,
except for importance densities, whose powers are summed in another order.
"""

try:
    from shiftbench import _C as _C
except ImportError as missing:
    raise ImportError(
        f"shiftbench's compiled core does not load ({missing}); build it with 'pip install .' "
        "(from a clone: 'pip install -e .'), which needs a C++17 compiler and Python's headers"
    ) from missing

from shiftbench.ops.importance import (
    grad_x_input,
    importance_density,
    importance_density_from_grad,
    importance_levels,
)
from shiftbench.ops.operators import get_threads, set_threads, to_supported_device
from shiftbench.ops.pairs import cooccurrence, word_pairs
from shiftbench.ops.resampling import bootstrap
from shiftbench.ops.topk import vocab_topk

__all__ = [
    "bootstrap",
    "cooccurrence",
    "get_threads",
    "grad_x_input",
    "importance_density",
    "importance_density_from_grad",
    "importance_levels",
    "set_threads",
    "to_supported_device",
    "vocab_topk",
    "word_pairs",
]
