"""shiftbench measures what instruction tuning changed inside a language model.

The functions of the notebook API. Each name is imported when it is first used, so that `import shiftbench` is fast:

    attribute(model, tokenizer, prompt, response) -> Attribution
    word_pairs(model, tokenizer, words, vectors, layers=None) -> DataFrame
    concepts(model, tokenizer, words, layers=None, rank=300, top=50) -> DataFrame
    vocab_topk(embedding_VD, direction_CD, k) -> (values_CK, indices_CK)
    score(base, tuned, prompts=..., **options) -> Scores
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftbench.api import Attribution, Scores, attribute, concepts, score, word_pairs
    from shiftbench.contracts.result import Score
    from shiftbench.errors import InputError
    from shiftbench.ops import vocab_topk
    from shiftbench.prompts import Prompt
    from shiftbench.verdicts import Verdict

__version__ = version("shiftbench")

# name -> the module that it is imported from
_MODULES = {
    "Attribution": "shiftbench.api",
    "attribute": "shiftbench.api",
    "concepts": "shiftbench.api",
    "score": "shiftbench.api",
    "word_pairs": "shiftbench.api",
    "vocab_topk": "shiftbench.ops",
    "InputError": "shiftbench.errors",
    "Score": "shiftbench.contracts.result",
    "Scores": "shiftbench.api",
    "Verdict": "shiftbench.verdicts",
    "Prompt": "shiftbench.prompts",
}
__all__ = [
    "Attribution",
    "InputError",
    "Prompt",
    "Score",
    "Scores",
    "Verdict",
    "__version__",
    "attribute",
    "concepts",
    "score",
    "vocab_topk",
    "word_pairs",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'shiftbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names of this module, sorted, with those of the API that are not yet imported.

    So dir(), help() and completion show the API before it is first used.
    """
    return sorted({*globals(), *_MODULES})
