"""What takes the place of a masked prompt token: nothing at all, or another input embedding.

No choice is neutral. An embedding of zeros is far from all that a model has seen, and its norms magnify it; the mean of
the vocabulary is an average word; a random token is a real word in a wrong place; deletion leaves a shorter text. So
attributions are judged under several (docs/attribution.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.explain.keys import prompt_draws
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt
from shiftbench.readers.numbers import check_whole


class Mask(Enum):
    """What a masked token becomes.

    ZERO: its input embedding is zero. MEAN: it is the mean input embedding of the vocabulary, as the model scales it.
    PAD: that of the tokenizer's padding token. SPACE: that of the token that spells one space. RESAMPLE: that of a
    token drawn from the vocabulary's ordinary tokens, each with equal probability; probabilities are averaged over the
    draws. DELETE: the token is taken out of the text, and those behind it move up.
    """

    ZERO = "zero"
    MEAN = "mean"
    PAD = "pad"
    SPACE = "space"
    RESAMPLE = "resample"
    DELETE = "delete"


def mask_named(option: str, name: str) -> Mask:
    """The Mask of this name. Raises InputError where there is none. option: what the name is of, for the message."""
    names = [mask.value for mask in Mask]
    if name not in names:
        raise InputError(f"{option}={name!r} is not known; choose from {', '.join(names)}")
    return Mask(name)


@dataclass(frozen=True)
class Masking:
    """A mask with its options.

    kind: of the mask. draws, seed: of RESAMPLE; the other kinds do not use them. The draws depend on the prompt's token
    ids too, so base and tuned get equal draws where they get equal token ids. Raises InputError where `draws` is less
    than 1.
    """

    kind: Mask
    draws: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("masks: draws", self.draws, 1)
        check_whole("masks: seed", self.seed, None)

    @property
    def is_drawn(self) -> bool:
        """Whether the mask depends on draws."""
        return self.kind is Mask.RESAMPLE

    def content(self) -> dict[str, str | int]:
        """The part of a unit's content that names the mask and the options that it uses; empty for ZERO.

        Units with ZERO were stored before there were other masks.
        """
        if self.kind is Mask.ZERO:
            return {}
        drawn = {"mask_draws": self.draws, "mask_seed": self.seed} if self.is_drawn else {}
        return {"mask": self.kind.value, **drawn}

    def check(self, model: Model) -> None:
        """Raise InputError where the model's tokenizer has no token for this mask."""
        if self.kind is Mask.PAD and model.tokenizer.pad_token_id is None:
            raise _no_token(model, self.kind, "no padding token")
        if self.kind is Mask.SPACE and len(model.tokenizer(" ", add_special_tokens=False)["input_ids"]) != 1:
            raise _no_token(model, self.kind, "no single token for a space")

    def check_prompts(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Raise InputError where a prompt is a single token, with none in front, and masked tokens are deleted."""
        for prompt in prompts:
            if self.kind is Mask.DELETE and len(prompt.prompt_ids) == 1 and not prompt.prefix_ids:
                raise InputError(
                    f"mask=delete: prompt {prompt.prompt.id!r} is a single token, and without it nothing is left in "
                    "front of the response; leave the prompt out or use mask=mean"
                )

    def replacements(self, model: Model, prompt: EncodedPrompt) -> list[Tensor | None]:
        """The input embeddings [P, D] that the prompt's tokens get where they are masked, one tensor for each draw.

        Only RESAMPLE has several draws. DELETE gives one None. Raises InputError as `check` does.
        """
        self.check(model)
        if self.kind is Mask.DELETE:
            return [None]
        embedder, tokens = model.module.get_input_embeddings(), len(prompt.prompt_ids)
        if self.kind is Mask.RESAMPLE:
            ordinary_N = ordinary_tokens(model)
            generator = prompt_draws(prompt, self.seed, "resampled tokens")
            drawn = [torch.randint(len(ordinary_N), (tokens,), generator=generator) for _ in range(self.draws)]
            return [_embed(embedder, ordinary_N[index_P], model) for index_P in drawn]
        if self.kind is Mask.PAD:
            one_1D = _embed(embedder, torch.tensor([model.tokenizer.pad_token_id]), model)
        elif self.kind is Mask.SPACE:
            one_1D = _embed(embedder, torch.tensor(model.tokenizer(" ", add_special_tokens=False)["input_ids"]), model)
        elif self.kind is Mask.MEAN:
            one_1D = mean_embedding(model)[None]
        else:
            one_1D = torch.zeros_like(_embed(embedder, torch.tensor([0]), model))
        return [one_1D.expand(tokens, -1)]


def ordinary_tokens(model: Model) -> Tensor:
    """Ids of the tokens that spell text, int64, ascending: all of the tokenizer's but special and added ones."""
    special = {*model.tokenizer.all_special_ids, *model.tokenizer.added_tokens_decoder}
    known = min(len(model.tokenizer), model.module.get_input_embeddings().weight.shape[0])
    return torch.tensor([token for token in range(known) if token not in special])


def embedding_size(model: Model) -> float:
    """The root of the mean square of all entries of the vocabulary's input embeddings.

    The embeddings are as the embedding module gives them (scaled where it scales), and the mean is taken in float64.
    """
    square = sum(float(part_ND.double().square().sum()) for part_ND in _vocabulary(model))
    return math.sqrt(square / model.module.get_input_embeddings().weight.numel())


def mean_embedding(model: Model) -> Tensor:
    """[D]: the mean input embedding of the whole vocabulary, as the embedding module gives it (scaled where it scales).

    The mean is taken in float64 and returned in the embedding's dtype.
    """
    weight_VD: Tensor = model.module.get_input_embeddings().weight
    sums = [part_ND.sum(0, dtype=torch.float64) for part_ND in _vocabulary(model)]
    return (torch.stack(sums).sum(0) / len(weight_VD)).to(weight_VD.dtype)


def _vocabulary(model: Model) -> Iterator[Tensor]:
    """Yields the input embeddings of the whole vocabulary, some thousand tokens at a time."""
    embedder = model.module.get_input_embeddings()
    for ids in torch.arange(embedder.weight.shape[0]).split(8192):
        yield _embed(embedder, ids, model)


def _embed(embedder: torch.nn.Module, ids: Tensor, model: Model) -> Tensor:
    embedding_ND: Tensor = embedder(ids.to(model.input_device)).detach()
    return embedding_ND


def _no_token(model: Model, kind: Mask, lack: str) -> InputError:
    return InputError(
        f"mask={kind.value}: the tokenizer of {model.name} has {lack}; use mask=mean, mask=resample or mask=delete"
    )
