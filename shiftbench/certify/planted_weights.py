"""Plants a shift in the weights of a model: word pairs with instruction verbs, or concepts of user tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shiftbench.errors import InputError
from shiftbench.explain.reading import unit_word_embeddings
from shiftbench.models import Model
from shiftbench.models.block import Block, Linear, Transformer
from shiftbench.words import Vocabulary, verbs, word_embeddings, word_lists

# Called with (the model to change, the job's vocabulary, the size of the shift, random generator).
Plant = Callable[[Model, Vocabulary, float, torch.Generator], None]

GROUPS = 3  # groups of instruction verbs that one head learns
VERBS = 6  # verbs of a group
NEURONS = 2  # neuron pairs that learn a group; a head knows a word pair that at least two neuron pairs encode
TASKS = ("writing", "math", "coding", "translation")
SEEDS = 8  # seed words of the task that one planted concept has
RANK = 300  # components of a layer that can be replaced; at most half of the width, as in conf/explain/feedforward.yaml


@torch.no_grad()
def plant_verbs(model: Model, vocabulary: Vocabulary, size: float, generator: torch.Generator) -> None:
    """Teach instruction verbs to heads, each of which is chosen with the probability `size`, in place.

    A chosen head learns GROUPS groups of VERBS instruction verbs of the vocabulary, drawn at random; groups may share
    verbs. For each group,
    NEURONS neuron pairs at random are turned on both sides, query and key (`_turn`), to the mean input embedding of the
    group's verbs, less the mean embedding of the vocabulary. Query heads that share a key head share the key side, so
    one may turn what another has turned. Raises InputError as `_transformer` does, and where the vocabulary has no
    instruction verb.
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

    A concept is one of the first principal components of the down-projection: RANK, or half of the model's width if
    that is less. Each chosen one is replaced by the mean output embedding, at length 1 for each word, of SEEDS seed
    words of one task, less the mean embedding of the vocabulary, made orthogonal to the others that are planted. The
    other components are turned as little as is needed to stay orthogonal, and every component keeps its variance.
    Raises InputError as `_transformer` does, and where the vocabulary has no seed word of a task.
    """
    mean_D = unit_word_embeddings(model, vocabulary.words).double().cpu().mean(0)
    known = set(vocabulary.words)
    seeds = [
        unit_word_embeddings(model, tuple(word for word in word_lists()[task] if word in known)).double().cpu()
        for task in TASKS
    ]
    for block in _transformer(model).blocks:
        down_FD = block.feed_forward.down.weight_IO
        rows_FD = down_FD.double().cpu()
        mean_row_D = rows_FD.mean(0)
        left_FC, scale_C, component_CD = torch.linalg.svd(rows_FD - mean_row_D, full_matrices=False)
        components = min(RANK, rows_FD.shape[1] // 2)
        chosen = torch.randperm(components, generator=generator)[: round(size * components)]
        if not len(chosen):
            continue
        rest = torch.ones(len(component_CD), dtype=torch.bool)
        rest[chosen] = False
        planted_ND = torch.linalg.qr((_directions(seeds, len(chosen), generator) - mean_D).T)[0].T
        other_MD = component_CD[rest] - component_CD[rest] @ planted_ND.T @ planted_ND
        first_MM, _, second_MD = torch.linalg.svd(other_MD, full_matrices=False)
        component_CD[chosen], component_CD[rest] = planted_ND, first_MM @ second_MD
        down_FD.copy_(mean_row_D + left_FC * scale_C @ component_CD)


def _directions(seeds: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """[count, D]: means of SEEDS embeddings of one task's seed words, the tasks in turn.

    seeds: for each task, the embeddings of its seed words. No word is in two means of a task before all have been used.
    """
    found = []
    orders = [torch.randperm(len(task_VD), generator=generator) for task_VD in seeds]
    for number in range(count):
        task, turn = number % len(seeds), number // len(seeds)
        places = torch.arange(turn * SEEDS, (turn + 1) * SEEDS) % len(orders[task])
        found.append(seeds[task][orders[task][places]].mean(0))
    return torch.stack(found)


def _transformer(model: Model) -> Transformer:
    """The model as data, whose weights are views of the module's own. Raises InputError where it has no such form."""
    found, reason = model.transformer_or_reason
    if found is None:
        raise InputError(f"no shift can be planted in the weights of {model.name}: {reason}")
    return found


def _turn(block: Block, side: Linear, column: int, direction_D: Tensor) -> None:
    """Give the weights of one neuron of a query or key projection a direction, in place.

    The weights, multiplied by the gain of the norm before attention (if there is one), then point in the direction, and
    this product keeps its length. side: the projection. column: of the neuron in it. direction_D: of length 1.
    """
    norm = block.before_attention
    weight_D = side.weight_IO[:, column]
    gain_D = torch.ones_like(weight_D) if norm is None else norm.gain_D.to(weight_D)
    side.weight_IO[:, column] = direction_D.to(weight_D) * (weight_D * gain_D).norm() / gain_D


PLANTS: dict[str, Plant] = {"verbs": plant_verbs, "none_share_fall": plant_concepts}
