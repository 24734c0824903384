"""Plants a shift in the weights of a model: word pairs with instruction verbs, or concepts of user tasks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shiftbench.errors import InputError
from shiftbench.explain.feedforward import principal_components, unit_word_embeddings
from shiftbench.models import Model
from shiftbench.models.block import Block, Linear, Transformer
from shiftbench.words import Vocabulary, verbs, word_embeddings, word_lists

# Called with (the model to change, the job's vocabulary, the size of the shift, random generator).
Plant = Callable[[Model, Vocabulary, float, torch.Generator], None]

GROUPS = 3  # groups of instruction verbs that one head learns
VERBS = 6  # verbs of a group
NEURONS = 2  # neuron pairs that learn a group; a head knows a word pair that at least two neuron pairs encode
TASKS = ("writing", "math", "coding", "translation")
RANK = 300  # components of a layer, at most half of the width, as in conf/explain/feedforward.yaml


@torch.no_grad()
def plant_verbs(model: Model, vocabulary: Vocabulary, size: float, generator: torch.Generator) -> None:
    """Teach instruction verbs to a share `size` of all heads, each chosen at random; the module is changed in place.

    A chosen head learns GROUPS groups of VERBS instruction verbs, drawn at random. For each group, NEURONS neuron pairs
    at random are replaced on both sides, query and key: by the mean embedding of the group's verbs, less the mean
    embedding of the vocabulary, at the length that the neuron's weights had. Query heads that share a key head share
    the key side.
    """
    words = [verb for verb in verbs("instruction") if verb in set(vocabulary.words)]
    all_VD, verb_VD = (
        word_embeddings(model.views.embedding_in_VD().cpu(), model.tokenizer, list(these))
        for these in (vocabulary.words, words)
    )
    mean_D = all_VD.mean(0)
    for block in _transformer(model).blocks:
        attention = block.attention
        for head in range(attention.heads):
            if float(torch.rand((), generator=generator)) >= size:
                continue
            key_head = head * attention.key_heads // attention.heads
            neurons = torch.randperm(attention.head_width, generator=generator)[: GROUPS * NEURONS].tolist()
            for position, neuron in enumerate(neurons):
                if position % NEURONS == 0:
                    group = torch.randperm(len(words), generator=generator)[:VERBS]
                    direction_D = normalize(verb_VD[group].mean(0) - mean_D, dim=0)
                _turn(block, attention.query, head * attention.head_width + neuron, direction_D)
                _turn(block, attention.key, key_head * attention.head_width + neuron, direction_D)


@torch.no_grad()
def plant_concepts(model: Model, vocabulary: Vocabulary, size: float, generator: torch.Generator) -> None:
    """Turn a share `size` of each layer's concepts, chosen at random, into concepts of user tasks, in place.

    A chosen principal component of the down-projection is replaced by the mean output embedding of a random half of a
    task's seed words, less the mean embedding of the vocabulary, at length 1. Each neuron keeps the size of its
    projection on it.
    """
    mean_D = unit_word_embeddings(model, vocabulary.words).cpu().mean(0)
    known = set(vocabulary.words)
    seeds = [unit_word_embeddings(model, tuple(w for w in word_lists()[task] if w in known)).cpu() for task in TASKS]
    for layer, block in enumerate(_transformer(model).blocks):
        component_CD, _ = principal_components(model.views.down_FD(layer), RANK)
        chosen = torch.randperm(len(component_CD), generator=generator)[: round(size * len(component_CD))]
        down_FD = block.feed_forward.down.weight_IO
        before_FD = down_FD.double().clone()
        for number, index in enumerate(chosen.tolist()):
            task_VD = seeds[number % len(TASKS)]
            half = torch.randperm(len(task_VD), generator=generator)[: max(1, len(task_VD) // 2)]
            direction_D = normalize(task_VD[half].mean(0) - mean_D, dim=0).to(before_FD)
            component_D = component_CD[index].to(before_FD)
            down_FD += torch.outer(before_FD @ component_D, direction_D - component_D).to(down_FD)


def _transformer(model: Model) -> Transformer:
    """The model as data, whose weights are views of the module's own. Raises InputError where it has no such form."""
    found, reason = model.transformer_or_reason
    if found is None:
        raise InputError(f"no shift can be planted in the weights of {model.name}: {reason}")
    return found


def _turn(block: Block, side: Linear, column: int, direction_D: Tensor) -> None:
    """Give one neuron of a query or key projection the direction, as seen behind the norm in front of the layer.

    side: the projection. column: of the neuron in it. The length of the neuron's weights, multiplied by the norm's
    gain, stays.
    """
    norm = block.before_attention
    weight_D = side.weight_IO[:, column]
    gain_D = torch.ones_like(weight_D) if norm is None else norm.gain_D.to(weight_D)
    side.weight_IO[:, column] = direction_D.to(weight_D) * (weight_D * gain_D).norm() / gain_D


PLANTS: dict[str, Plant] = {"verbs": plant_verbs, "none_share_fall": plant_concepts}
