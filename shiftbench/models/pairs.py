"""Pair: a base model and what instruction tuning made of it, and whether the two can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from shiftbench import models
from shiftbench.errors import InputError
from shiftbench.models import Model, ModelSource
from shiftbench.models.hub import as_input_error
from shiftbench.models.source import is_adapter
from shiftbench.models.tokenizer import can_share_ids, first_difference, load_tokenizer
from shiftbench.readers import path_of

# What must be equal for weights and explanations to be compared one by one, and how messages call it.
SHAPE = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key heads",
    "head_dim": "head width",
    "intermediate_size": "feed-forward width",
    "n_inner": "feed-forward width",
}


@dataclass(frozen=True)
class Pair:
    """A base model and its tuned one; family and size are what leaderboards group by."""

    name: str
    family: str
    size: str
    base: ModelSource
    tuned: ModelSource


def pair(
    name: str,
    family: str,
    size: str,
    base: str,
    tuned: str,
    base_model: Callable[..., ModelSource],
    tuned_model: Callable[..., ModelSource],
) -> Pair:
    """The pair that a file in conf/pair describes; refuses nothing, `check` does.

    base, tuned: hub id, folder or GGUF file; a tuned folder that holds only a PEFT adapter is taken as one on base.
    base_model, tuned_model: how to load each (conf/model), called with the path. name: where it is the tuned one's
    path, the last part of that.
    """
    base_source, tuned_source = base_model(**_location(base, "base")), tuned_model(**_location(tuned, "tuned"))
    if is_adapter(path_of(tuned, "pair.tuned")):
        where: dict[str, Any] = {f: getattr(base_source, f) for f in ("path", "revision", "gguf_file", "tokenizer")}
        tuned_source = replace(tuned_source, adapter=tuned, **where)
    return Pair(Path(name).name if name == tuned else name, family, size, base_source, tuned_source)


def _location(path: str, side: str) -> dict[str, str]:
    """What a model's path says: of a GGUF file, its folder and its name. side: which of the pair's two it is."""
    file = path_of(path, f"pair.{side}")
    if file.suffix == ".gguf" and file.is_file():
        return {"path": str(file.parent), "gguf_file": file.name}
    return {"path": path}


class PairModels:
    """The two models of a pair, each loaded when it is first asked for, and kept until this object goes."""

    def __init__(self, pair: Pair, load: Callable[[ModelSource], Model], load_base: Callable[[ModelSource], Model]):
        """load_base: loads the base, which a Loader may have in memory already."""
        self._pair, self._load, self._load_base = pair, load, load_base

    @cached_property
    def base(self) -> Model:
        """The base model."""
        return self._load_base(self._pair.base)

    @cached_property
    def tuned(self) -> Model:
        """The tuned model; the base itself where both come from the same source."""
        return self.base if self._pair.tuned == self._pair.base else self._load(self._pair.tuned)


class Loader:
    """Gives the models of one pair after the other. A base stays in memory until that of another pair is loaded."""

    def __init__(self) -> None:
        self._base: Model | None = None

    def __call__(self, pair: Pair) -> PairModels:
        """The pair's models, none of them loaded yet. Raises InputError, before any weight is read, as `check` does."""
        check(pair)
        return PairModels(pair, models.load, self._load_base)

    def _load_base(self, source: ModelSource) -> Model:
        if self._base is None or self._base.source != source:
            self._base = None  # its memory is free before the next is read
            self._base = models.load(source)
        return self._base


def load_pair(pair: Pair) -> PairModels:
    """The models of one pair, as a new Loader gives them."""
    return Loader()(pair)


def check(pair: Pair) -> tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]:
    """Refuse, by InputError, a pair that cannot be loaded or compared; reads configurations and tokenizers only.

    Returns the tokenizers of base and tuned.
    """
    base, tuned = models.check(pair.base), models.check(pair.tuned)
    if base.model_type != tuned.model_type:
        raise InputError(_differ(pair, "architectures", base.model_type, tuned.model_type))
    for field, called in SHAPE.items():
        sides = getattr(base, field, None), getattr(tuned, field, None)
        if sides[0] != sides[1]:
            raise InputError(_differ(pair, called, *sides))
    base_tokenizer, tuned_tokenizer = load_tokenizer(pair.base), load_tokenizer(pair.tuned)
    with as_input_error(f"tokenizers of {pair.base.name} and {pair.tuned.name}"):
        difference = first_difference(base_tokenizer, tuned_tokenizer)
    if difference:
        raise InputError(
            f"the tokenizers of {pair.base.name} and {pair.tuned.name} differ: {difference}; "
            f"a pair is compared on the same token ids"
            f"{base_tokenizer_hint(pair.base) if can_share_ids(base_tokenizer, tuned_tokenizer) else ''}"
        )
    return base_tokenizer, tuned_tokenizer


def base_tokenizer_hint(base: ModelSource) -> str:
    """What to type where the tuned model can be given base's token ids, as the end of a message."""
    if base.gguf_file is not None and base.tokenizer is None:
        return ""  # a tokenizer is taken from a hub id or a folder
    return f"; where tuning kept base's token ids, pair.tuned_model.tokenizer={base.tokenizer or base.path} uses them"


def _differ(pair: Pair, what: str, base: Any, tuned: Any) -> str:
    return (
        f"{pair.base.name} and {pair.tuned.name} are no pair: their {what} differ ({base} and {tuned}); "
        f"base must be the model that tuned was made from"
    )
