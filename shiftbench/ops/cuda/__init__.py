"""The part of the compiled core that has kernels for a GPU, with the names and arguments that `_C` has for the CPU.

    importance.py  gradient times input, levels, densities
    topk.py        the words with the largest projections on given directions
    pairs.py       co-occurring words, word pairs of neuron pairs
    resampling.py  bootstrap means
    derivatives.py the engine's derivatives of norms, rotary embeddings and activations
    precision.py   whether float32 matrix products are computed in TF32
    launch.py      device and stream of a kernel, and the counters in which kernels report what they refuse

The functions of launch.py and precision.py have no counterpart in `_C`. Scratch memory comes from torch, because
torch's allocator knows which stream uses it. Matrix products and sorting are torch's too. Shapes and dtypes are not
checked here, but for the number of key words of a neuron pair: the public ops check theirs, and the engine computes its
own.
"""

from shiftbench.ops.cuda.derivatives import activation_derivative, norm_derivative, rotary_derivative
from shiftbench.ops.cuda.importance import (
    grad_x_input,
    importance_density,
    importance_density_from_grad,
    importance_levels,
)
from shiftbench.ops.cuda.launch import serves
from shiftbench.ops.cuda.pairs import Cooccurrence32, Cooccurrence64, WordPairs32, WordPairs64
from shiftbench.ops.cuda.precision import float32_products
from shiftbench.ops.cuda.resampling import bootstrap
from shiftbench.ops.cuda.topk import vocab_topk

__all__ = [
    "Cooccurrence32",
    "Cooccurrence64",
    "WordPairs32",
    "WordPairs64",
    "activation_derivative",
    "bootstrap",
    "float32_products",
    "grad_x_input",
    "importance_density",
    "importance_density_from_grad",
    "importance_levels",
    "norm_derivative",
    "rotary_derivative",
    "serves",
    "vocab_topk",
]
