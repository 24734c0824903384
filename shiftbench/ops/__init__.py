"""The numerical functions of the compiled core, `_C`, for the rest of shiftbench.

Each op checks its arguments, allocates its results and calls the core. The engine's own steps call the core without
these functions (engine/core_calls.py).

    importance.py  gradient times input, levels, densities
    topk.py        the words with the largest projections on given directions
    pairs.py       co-occurring words, word pairs of neuron pairs
    resampling.py  bootstrap means
    operators.py   what all of them share: the torch operator, the checks of tensors, the choice of CPU or GPU
    cuda/          what they compute on a GPU

The functions take and return tensors; they read no files and know no models. A tensor whose rows are contiguous is
read in place, whatever its other strides, unless it has to be converted to another dtype. No result is differentiable.
No result depends on the number of threads or on the instruction set of the CPU. If the core was built with CUDA, the
results for tensors on a GPU are computed there and are tensors there. Only a direction for which `vocab_topk` has too
many candidates is computed on the CPU (ops/cuda/topk.py). Results on a GPU are the same bytes as on a CPU, except for
importance densities, because a GPU sums levels and their powers in another order.
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
