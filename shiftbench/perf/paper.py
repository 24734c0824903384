"""The paper's procedures (arXiv 2310.00492), written from its description in plain torch, numpy and Python.

They are what ours is timed against, so each is the direct reading: no waste beyond what the description asks for, and
no idea of ours in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from shiftbench.perf.cases import Case, attention
from shiftbench.perf.compare import Sampled


def now(device: torch.device) -> float:
    """The clock's seconds, once the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of 0..count-1, evenly spread."""
    if wanted >= count:
        return list(range(count))
    return [round((i + 0.5) * count / wanted - 0.5) for i in range(wanted)]


def loop(module: PreTrainedModel, case: Case, frozen: bool = False, tokens: int | None = None) -> Tensor | Sampled:
    """importance_PR by one forward pass and one backward pass of p(y_r) per response token over its kept graph.

    frozen: parameters ask for no gradient. tokens: only so many response tokens, evenly spread; the seconds of a
    backward pass do not depend on which, so the whole is the forward pass and R times their mean.
    """
    before = [p.requires_grad for p in module.parameters()]
    module.requires_grad_(not frozen)
    try:
        with attention(module, "sdpa"):
            return _loop(module, case, tokens)
    finally:
        for parameter, asked in zip(module.parameters(), before, strict=True):
            parameter.requires_grad_(asked)
            parameter.grad = None


def _loop(module: PreTrainedModel, case: Case, tokens: int | None) -> Tensor | Sampled:
    prefix, prompt, response = case.ids
    begin = now(module.device)
    ids = torch.tensor([[*prefix, *prompt, *response]], device=module.device)
    embedding = module.get_input_embeddings()(ids).detach().requires_grad_(True)
    probability = module(inputs_embeds=embedding, use_cache=False).logits[0].softmax(-1)
    start, stop = len(prefix), len(prefix) + len(prompt)
    chosen = spread(len(response), tokens or len(response))
    after_forward, columns = now(module.device), []
    for r in chosen:
        module.zero_grad()
        embedding.grad = None
        probability[stop - 1 + r, response[r]].backward(retain_graph=True)
        assert embedding.grad is not None
        columns.append((embedding.grad[0, start:stop] * embedding[0, start:stop]).sum(-1).detach())
    return whole(torch.stack(columns, dim=1), begin, after_forward, chosen, len(response))


def batched(module: PreTrainedModel, case: Case, chunk: int, tokens: int | None = None) -> Tensor | Sampled:
    """The same by is_grads_batched, `chunk` response tokens at a time, parameters frozen (eager: sdpa has no vmap)."""
    prefix, prompt, response = case.ids
    begin = now(module.device)
    ids = torch.tensor([[*prefix, *prompt, *response]], device=module.device)
    embedding = module.get_input_embeddings()(ids).detach().requires_grad_(True)
    start, stop = len(prefix), len(prefix) + len(prompt)
    p_RV = module(inputs_embeds=embedding, use_cache=False).logits[0, stop - 1 : -1].softmax(-1)
    p_R = p_RV.gather(1, ids[0, stop:, None])[:, 0]
    chosen = spread(len(response), tokens or len(response))
    after_forward, columns = now(module.device), []
    for part in torch.eye(len(response), dtype=p_R.dtype, device=p_R.device)[chosen].split(chunk):
        (grad,) = torch.autograd.grad(p_R, embedding, part, retain_graph=True, is_grads_batched=True)
        columns.append((grad[:, 0, start:stop] * embedding[0, start:stop]).sum(-1).T.detach())
    return whole(torch.cat(columns, dim=1), begin, after_forward, chosen, len(response))


def whole(
    importance_PR: Tensor, begin: float, after_forward: float, chosen: Sequence[int], count: int
) -> Tensor | Sampled:
    """The importance of all tokens as it is; that of some with the seconds that all would have taken."""
    if len(chosen) == count:
        return importance_PR
    seconds = after_forward - begin + (now(importance_PR.device) - after_forward) * count / len(chosen)
    return Sampled(importance_PR, seconds, f"extrapolated from {len(chosen)} of {count} tokens")


def exact(module: PreTrainedModel, case: Case, places: Sequence[int]) -> Tensor:
    """Columns `places` of importance_PR by autograd in the module's dtype (float64), the plain softmax formula."""
    prefix, prompt, response = case.ids
    ids = torch.tensor([[*prefix, *prompt, *response]], device=module.device)
    embedding = module.get_input_embeddings()(ids).detach().requires_grad_(True)
    start, stop = len(prefix), len(prefix) + len(prompt)
    probability = module(inputs_embeds=embedding, use_cache=False).logits[0].softmax(-1)
    columns = []
    for r in places:
        (grad,) = torch.autograd.grad(probability[stop - 1 + r, response[r]], embedding, retain_graph=True)
        columns.append((grad[0, start:stop] * embedding[0, start:stop]).sum(-1).detach())
    return torch.stack(columns, dim=1)
