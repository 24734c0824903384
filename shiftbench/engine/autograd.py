"""Reverse mode by torch's autograd, for models and texts that the engine cannot differentiate itself.

These are models whose architecture is not known as data (shiftbench/models/views.py), models with a linear layer that
is not plain (NotPlainLayer there), models in half precision, and texts that would get other rotation angles at the
length to which the engine pads them. For a model and a text that the engine can compute too, the results are the same
up to rounding, and take longer.
Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from shiftbench.engine.probability import Objective, check_finite, objective_gradient
from shiftbench.errors import InputError
from shiftbench.readers import reading

MOST = 16  # the most response tokens' gradients, or masks, that are computed together: more were no faster
# A causal model's logits do not depend on later tokens. Some models mask with a large negative number instead of -inf,
# so the gradient by a later token's embedding is not exactly 0. Its entries count as 0 up to this share of the largest
# entry of the gradient by all embeddings.
LEAK = 1e-4


@dataclass(frozen=True)
class ForwardGraph:
    """A forward pass over prefix, prompt and response, with autograd's graph from the embeddings.

    hidden_TD: [1, T, D], the input of the output embeddings. Its position start + r predicts response token r.
    direction_RD: the gradient of response token r's objective (its probability, unless `forward` got another one) by
    hidden_TD at position start + r. probability_R: the response tokens' probabilities.
    embedding_TD: [1, T, D], the input embeddings, to which the graph goes back; the prompt's may be others than its
    tokens have. prompt: the range of the prompt's positions.
    The graph serves one call of `total_gradient` or one pass of `gradients`, which free it.
    """

    hidden_TD: Tensor
    direction_RD: Tensor
    start: int
    probability_R: Tensor
    embedding_TD: Tensor
    prompt: slice

    @property
    def embedding_PD(self) -> Tensor:
        """The prompt's input embeddings with which `forward` computed, detached from the graph."""
        return self.embedding_TD[0, self.prompt].detach()


def forward(
    module: PreTrainedModel,
    prefix_ids: tuple[int, ...],
    prompt_ids: tuple[int, ...],
    response_ids: tuple[int, ...],
    embedding_PD: Tensor | None = None,
    objective: Objective = Objective.PROBABILITY,
) -> ForwardGraph:
    """The module's forward pass over prefix, prompt and response, with each response token's probability.

    The module must use eager attention. embedding_PD: what the prompt's embeddings are replaced by; None for those of
    its tokens. objective: of what of a response token direction_RD is the gradient.
    A row of logits depends on the hidden state at its own position alone, so one backward pass through the output
    embeddings gives direction_RD for all tokens.
    Raises InputError where `ends` does, where the module fails on input embeddings, and where it does not compute its
    logits by one call of the output embeddings on all positions. Raises NotFinite where logits that predict a response
    token contain NaN or +inf.
    """
    embedder, head = ends(module)
    ids = torch.tensor([prefix_ids + prompt_ids + response_ids], device=embedder.weight.device)
    prompt = slice(len(prefix_ids), len(prefix_ids) + len(prompt_ids))
    embedding_TD = embedder(ids).detach()
    if embedding_PD is not None:
        embedding_TD[:, prompt] = embedding_PD
    embedding_TD.requires_grad_(True)
    first = len(prefix_ids) + len(prompt_ids) - 1  # this position predicts the first response token
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits_RV = _logits(module, embedding_TD)[0, first:-1]
    finally:
        hook.remove()
    if len(seen) != 1 or seen[0].shape[:2] != embedding_TD.shape[:2]:
        raise InputError(f"{type(module).__name__}: attribution needs logits that the output embeddings give directly")
    logits_RV = logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()
    target_R = torch.tensor(response_ids, device=logits_RV.device)
    slope_RV, probability_R = objective_gradient(objective, logits_RV, target_R)
    (grad_TD,) = torch.autograd.grad(logits_RV, seen[0], slope_RV)
    return ForwardGraph(seen[0], grad_TD[0, first:-1], first, probability_R, embedding_TD, prompt)


def ends(module: PreTrainedModel) -> tuple[nn.Embedding, nn.Module]:
    """(module of the input embeddings, module of the output embeddings) of a causal language model.

    Raises InputError where one of them is missing, and where the model is an encoder with a decoder.
    """
    name = type(module).__name__
    if getattr(module.config, "is_encoder_decoder", False):
        raise InputError(
            f"{name} encodes the prompt and decodes the response: attribution needs a causal language model"
        )
    with reading(f"{name}: its embeddings cannot be found", "attribution needs a causal language model"):
        embedder: Any = module.get_input_embeddings()
        head = module.get_output_embeddings()
    if not isinstance(head, nn.Module) or not isinstance(getattr(embedder, "weight", None), Tensor):
        raise InputError(f"{name} has no output embeddings: load it with AutoModelForCausalLM, not with AutoModel")
    return embedder, head


def _logits(module: PreTrainedModel, embedding_BTD: Tensor) -> Tensor:
    """logits_BTV of the module's own forward pass. Raises InputError where that pass raises an error of any kind."""
    name = type(module).__name__
    with reading(f"{name} fails on input embeddings", "attribution needs a causal language model that takes them"):
        logits_BTV: Tensor = module(inputs_embeds=embedding_BTD, use_cache=False).logits
    return logits_BTV


def chunk(config: PreTrainedConfig, graph: ForwardGraph, memory: int) -> int:
    """How many response tokens' gradients to compute together: what `memory` bytes hold, but 1 to MOST in any case.

    A gradient is taken to need about as much memory as it does in one layer. config: of the text model; the number of
    attention heads and the size of a state (as Mamba has) are read from it, and each counts as 0 where it is not there.
    """
    tokens, width = graph.embedding_TD.shape[1:]
    heads = getattr(config, "num_attention_heads", None) or 0
    state = 6 * width * (getattr(config, "state_size", None) or 0)
    each = tokens * (16 * width + 3 * tokens * heads + state) * graph.embedding_TD.element_size()
    return max(1, min(MOST, memory // each))


def gradients(graph: ForwardGraph, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Yields (slice of the response tokens, grad_RPD of these tokens), for at most `chunk` response tokens at a time.

    grad_RPD: the gradient of each token's objective by the prompt's embeddings. The last step frees the graph. Raises
    InputError where the first gradient shows that the model is not causal.
    """
    count = len(graph.direction_RD)
    for start in range(0, count, chunk):
        part = slice(start, min(start + chunk, count))
        places = torch.arange(part.start, part.stop)
        cotangent_CBTD = graph.hidden_TD.new_zeros(len(places), *graph.hidden_TD.shape)
        cotangent_CBTD[places - part.start, 0, graph.start + places] = graph.direction_RD[part]
        (grad_CBTD,) = torch.autograd.grad(
            graph.hidden_TD, graph.embedding_TD, cotangent_CBTD, retain_graph=part.stop < count, is_grads_batched=True
        )
        if start == 0:
            _check_causal(grad_CBTD[0, 0], graph.start)
        yield part, grad_CBTD[:, 0, graph.prompt]


def _check_causal(grad_TD: Tensor, position: int) -> None:
    """Raise InputError where logits depend on later tokens, as in a masked language model.

    grad_TD: the gradient, by every position's embedding, of a probability that is predicted at `position`. Up to LEAK
    times its largest entry, a gradient by a later token's embedding is taken for 0.
    """
    largest = grad_TD.abs().amax()
    if bool(grad_TD[position + 1 :].abs().amax() > LEAK * largest):
        raise InputError("attribution needs a causal language model: this one's logits depend on later tokens")


def total_gradient(graph: ForwardGraph) -> Tensor:
    """grad_PD: the gradient of the sum of the response tokens' objectives by the prompt's embeddings.

    Frees the graph.
    """
    cotangent_BTD = torch.zeros_like(graph.hidden_TD)
    cotangent_BTD[0, graph.start : graph.start + len(graph.direction_RD)] = graph.direction_RD
    (grad_BTD,) = torch.autograd.grad(graph.hidden_TD, graph.embedding_TD, cotangent_BTD)
    return grad_BTD[0, graph.prompt]


@torch.no_grad()
def log_probabilities(
    module: PreTrainedModel,
    embedding_TD: Tensor,
    prompt: slice,
    response_R: Tensor,
    masked_BP: Tensor,
    memory: int,
    replacement_PD: Tensor | None,
) -> Tensor:
    """log_BR: log-probability of each response token under each mask.

    It comes from the module's own forward pass, and is float64 where the logits are, else float32. embedding_TD: input
    embeddings of prefix, prompt and response. prompt: the range of the prompt's positions. response_R: token ids.
    masked_BP: bool, one mask in each row, True for a masked token. replacement_PD: the input embeddings that masked
    tokens get; None: masked tokens are deleted, and the tokens behind them move up. memory: bytes for the logits of the
    masks that are computed together; one mask is computed even where it needs more, and at most MOST masks are computed
    together. Raises InputError where the module fails on input embeddings, NotFinite where a log-probability is not
    finite, and ValueError where a mask deletes every token in front of the response.
    """
    last = prompt.stop - 1 + len(response_R)
    each = 3 * last * module.get_output_embeddings().weight.shape[0] * 4  # about the bytes of a mask's logits
    together = max(1, min(MOST, memory // each))
    masked_BP = masked_BP.to(embedding_TD.device)
    order, found = [], []
    for indices_C in _of_equal_length(masked_BP, together, deletes=replacement_PD is None):
        x_CTD = _masked_texts(embedding_TD[:last], prompt, masked_BP[indices_C], replacement_PD)
        if x_CTD.shape[1] < len(response_R):
            raise ValueError("a mask deletes every token in front of the response")
        logit_CRV = _logits(module, x_CTD)[:, -len(response_R) :]
        logit_CRV = logit_CRV if logit_CRV.dtype == torch.float64 else logit_CRV.float()
        target_CR1 = response_R.to(logit_CRV.device).expand(len(indices_C), -1)[..., None]
        found.append(logit_CRV.gather(2, target_CR1)[..., 0] - logit_CRV.logsumexp(-1))
        order.append(indices_C.to(logit_CRV.device))
    log_BR = torch.cat(found)[torch.cat(order).argsort()]
    check_finite(log_BR, "of the response under masks of the prompt")
    return log_BR


def _of_equal_length(masked_BP: Tensor, most: int, deletes: bool) -> Iterator[Tensor]:
    """Yields the indices of at most `most` masks, until every mask was among them.

    Where masked tokens are deleted, masks that are yielded together delete equally many.
    """
    deleted_B = masked_BP.sum(1) * deletes
    for deleted in deleted_B.unique():
        yield from (deleted_B == deleted).nonzero()[:, 0].split(most)


def _masked_texts(embedding_TD: Tensor, prompt: slice, masked_CP: Tensor, replacement_PD: Tensor | None) -> Tensor:
    """x_CTD: the texts under C masks. Where masked tokens are deleted, every mask deletes equally many."""
    masked_CT = masked_CP.new_zeros(len(masked_CP), len(embedding_TD))
    masked_CT[:, prompt] = masked_CP
    x_CTD = embedding_TD.repeat(len(masked_CP), 1, 1)
    if replacement_PD is None:
        return x_CTD[~masked_CT].view(len(masked_CP), -1, embedding_TD.shape[1])
    x_CTD[:, prompt] = torch.where(masked_CP[..., None], replacement_PD.to(x_CTD), x_CTD[:, prompt])
    return x_CTD
