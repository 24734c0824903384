"""Pair: a base model and the model tuned from it. Checks that the two can be compared, and loads each when needed."""

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

# Field of a configuration -> its word in messages. The two models of a pair must have equal values in these fields, so
# that their weights and explanations can be compared one by one. A field that both lack counts as equal.
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
    """A base model and the model tuned from it. family, size: words by which leaderboards group pairs."""

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
    """The pair that a file in conf/pair describes. Whether it can be compared is left to `check`.

    base, tuned: hub id, folder or GGUF file. Where `tuned` is a folder with a PEFT adapter and no whole model, the
    tuned model is base with that adapter: path, revision and gguf_file are base's, and so is the tokenizer unless
    tuned_model names one; the other fields are those of tuned_model. base_model, tuned_model: make the ModelSource of a
    side from its path and gguf_file; conf/model sets the other fields. name: where it equals `tuned`, which may be a
    path, the pair is named by the last part of that path.
    """
    base_source, tuned_source = base_model(**_location(base, "base")), tuned_model(**_location(tuned, "tuned"))
    if is_adapter(path_of(tuned, "pair.tuned")):
        where: dict[str, Any] = {f: getattr(base_source, f) for f in ("path", "revision", "gguf_file")}
        where["tokenizer"] = tuned_source.tokenizer or base_source.tokenizer
        tuned_source = replace(tuned_source, adapter=tuned, **where)
    return Pair(Path(name).name if name == tuned else name, family, size, base_source, tuned_source)


def _location(path: str, side: str) -> dict[str, str]:
    """The fields of a ModelSource that say where a model is.

    They are {"path": folder, "gguf_file": name} where `path` is a GGUF file, else {"path": path}. side: "base" or
    "tuned", for messages.
    """
    file = path_of(path, f"pair.{side}")
    if file.suffix == ".gguf" and file.is_file():
        return {"path": str(file.parent), "gguf_file": file.name}
    return {"path": path}


class PairModels:
    """The two models of a pair. Each is loaded on first use and kept in memory as long as this object exists."""

    def __init__(self, pair: Pair, load: Callable[[ModelSource], Model], load_base: Callable[[ModelSource], Model]):
        """load: loads the tuned model. load_base: loads the base, or returns the one that a Loader has in memory."""
        self._pair, self._load, self._load_base = pair, load, load_base

    @cached_property
    def base(self) -> Model:
        """The base model."""
        return self._load_base(self._pair.base)

    @cached_property
    def tuned(self) -> Model:
        """The tuned model. Where base and tuned have the same source it is the base, which is then loaded only once."""
        return self.base if self._pair.tuned == self._pair.base else self._load(self._pair.tuned)


class Loader:
    """Returns the models of one pair after another.

    The base that was loaded last stays in memory until a base of another source is needed.
    """

    def __init__(self) -> None:
        self._base: Model | None = None

    def __call__(self, pair: Pair) -> PairModels:
        """The pair's models, which are loaded on first use.

        Raises InputError as `check` does, before weights are read.
        """
        check(pair)
        return PairModels(pair, models.load, self._load_base)

    def _load_base(self, source: ModelSource) -> Model:
        if self._base is None or self._base.source != source:
            self._base = None  # so that its memory can be freed before the next base is read
            self._base = models.load(source)
        return self._base


def load_pair(pair: Pair) -> PairModels:
    """The models of one pair, which are loaded on first use. Raises InputError as `check` does."""
    return Loader()(pair)


def check(
    pair: Pair, base_model: Model | None = None, tuned_model: Model | None = None
) -> tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]:
    """Check that the two models of a pair can be compared, and return (base's tokenizer, tuned's tokenizer).

    base_model, tuned_model: the models that the caller has loaded; None: the model's files are checked. Reads
    configurations, tokenizers and headers of weight files, and no weights. Raises InputError where models.check or
    load_tokenizer refuses a model that is not loaded, and where the architectures of the two models, the sizes in SHAPE
    or the tokenizers (see first_difference) differ.
    """
    base = models.check(pair.base) if base_model is None else base_model.module.config
    tuned = models.check(pair.tuned) if tuned_model is None else tuned_model.module.config
    if base.model_type != tuned.model_type:
        raise InputError(_differ(pair, "architectures", base.model_type, tuned.model_type))
    for field, word in SHAPE.items():
        sides = getattr(base, field, None), getattr(tuned, field, None)
        if sides[0] != sides[1]:
            raise InputError(_differ(pair, word, *sides))
    base_tokenizer = load_tokenizer(pair.base) if base_model is None else base_model.tokenizer
    tuned_tokenizer = load_tokenizer(pair.tuned) if tuned_model is None else tuned_model.tokenizer
    with as_input_error(f"tokenizers of {pair.base.name} and {pair.tuned.name}"):
        difference = first_difference(base_tokenizer, tuned_tokenizer)
    if difference:
        raise InputError(
            f"the tokenizers of {pair.base.name} and {pair.tuned.name} differ: {difference}; "
            f"the models of a pair are compared on the same token ids"
            f"{base_tokenizer_hint(pair.base) if can_share_ids(base_tokenizer, tuned_tokenizer) else ''}"
        )
    return base_tokenizer, tuned_tokenizer


def base_tokenizer_hint(base: ModelSource) -> str:
    """The end of a message: the option to type where tuning kept base's token ids, so that tuned uses base's tokenizer.

    It is "" where base is a GGUF file and has no other tokenizer.
    """
    if base.gguf_file is not None and base.tokenizer is None:
        return ""  # pair.tuned_model.tokenizer takes a hub id or a folder, not a GGUF file
    return f"; where tuning kept base's token ids, pair.tuned_model.tokenizer={base.tokenizer or base.path} uses them"


def _differ(pair: Pair, what: str, base: Any, tuned: Any) -> str:
    """The message for a pair whose configurations differ in a field.

    what: the word for the field. base, tuned: the values that the two configurations have in it.
    """
    return (
        f"{pair.base.name} and {pair.tuned.name} are not a pair: their {what} differ ({base} and {tuned}); "
        f"base must be the model that tuned was made from"
    )
