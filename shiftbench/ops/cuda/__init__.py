"""The compiled core on a GPU, under the names and arguments that `_C` has for the CPU.

Scratch memory comes from torch, whose allocator knows streams; matrix products and sorting are left to torch as well.
Nothing is checked here: the ops have checked their arguments, and the engine has made its own.
"""

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
from shiftbench.ops.cuda.rows import gate_rows, norm_rows, rotate_rows
from shiftbench.ops.cuda.topk import vocab_topk

__all__ = [
    "Cooccurrence32",
    "Cooccurrence64",
    "WordPairs32",
    "WordPairs64",
    "bootstrap",
    "float32_products",
    "gate_rows",
    "grad_x_input",
    "importance_density",
    "importance_density_from_grad",
    "importance_levels",
    "norm_rows",
    "rotate_rows",
    "serves",
    "vocab_topk",
]
