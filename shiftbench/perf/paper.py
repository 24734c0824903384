"""Attribution as the paper (arXiv 2310.00492) describes it, in plain torch. Ours is timed against it.

`loop` and `batched` follow the description directly. They waste nothing beyond what the description requires, and they
have none of our improvements. `exact` computes the same for comparison and is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from shiftbench.perf.cases import Case, attention_implementation
from shiftbench.perf.timing import Sampled


def device_time(device: torch.device) -> float:
    """What `time.perf_counter` reads, in seconds, once the device has finished all work in its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def evenly_spread(count: int, wanted: int) -> list[int]:
    """`wanted` of the numbers 0 to count - 1, evenly spread and ascending; all of them if there are fewer."""
    if wanted >= count:
        return list(range(count))
    return [round((i + 0.5) * count / wanted - 0.5) for i in range(wanted)]


def loop(module: PreTrainedModel, case: Case, frozen: bool = False, tokens: int | None = None) -> Tensor | Sampled:
    """importance_PR by one forward pass, and one backward pass of p(y_r) for each response token r over its graph.

    frozen: whether the parameters need no gradient. tokens: the number of response tokens to compute, evenly spread;
    None or 0: all. Where it is less than R, the result is a Sampled with the computed columns. Its time for all tokens
    is extrapolated: that of the forward pass plus R times the mean of the backward passes. The module runs with
    sdpa attention; afterwards its attention and requires_grad are as before, and its parameters have no gradients.
    """
    before = [p.requires_grad for p in module.parameters()]
    module.requires_grad_(not frozen)
    try:
        with attention_implementation(module, "sdpa"):
            return _loop(module, case, tokens)
    finally:
        for parameter, requires_grad in zip(module.parameters(), before, strict=True):
            parameter.requires_grad_(requires_grad)
            parameter.grad = None


def _loop(module: PreTrainedModel, case: Case, tokens: int | None) -> Tensor | Sampled:
    prefix, prompt, response = case.ids
    begin = device_time(module.device)
    ids = torch.tensor([[*prefix, *prompt, *response]], device=module.device)
    embedding = module.get_input_embeddings()(ids).detach().requires_grad_(True)
    probability = module(inputs_embeds=embedding, use_cache=False).logits[0].softmax(-1)
    start, stop = len(prefix), len(prefix) + len(prompt)
    chosen = evenly_spread(len(response), tokens or len(response))
    after_forward, columns = device_time(module.device), []
    for r in chosen:
        module.zero_grad()
        embedding.grad = None
        probability[stop - 1 + r, response[r]].backward(retain_graph=True)
        assert embedding.grad is not None
        columns.append((embedding.grad[0, start:stop] * embedding[0, start:stop]).sum(-1).detach())
    return extrapolated(torch.stack(columns, dim=1), begin, after_forward, chosen, len(response))


def batched(module: PreTrainedModel, case: Case, chunk: int, tokens: int | None = None) -> Tensor | Sampled:
    """importance_PR by torch's is_grads_batched, `chunk` response tokens at a time.

    Only the gradient of the embeddings is computed; the parameters' requires_grad is left as it is. The caller sets
    eager attention (`attention_implementation`), for which torch can batch the gradients. tokens: the number of
    response tokens to compute, evenly spread; None or 0: all. Where it is less than R, the result is a Sampled with the
    computed columns, as that of `loop`.
    """
    prefix, prompt, response = case.ids
    begin = device_time(module.device)
    ids = torch.tensor([[*prefix, *prompt, *response]], device=module.device)
    embedding = module.get_input_embeddings()(ids).detach().requires_grad_(True)
    start, stop = len(prefix), len(prefix) + len(prompt)
    p_RV = module(inputs_embeds=embedding, use_cache=False).logits[0, stop - 1 : -1].softmax(-1)
    p_R = p_RV.gather(1, ids[0, stop:, None])[:, 0]
    chosen = evenly_spread(len(response), tokens or len(response))
    after_forward, columns = device_time(module.device), []
    for part in torch.eye(len(response), dtype=p_R.dtype, device=p_R.device)[chosen].split(chunk):
        (grad,) = torch.autograd.grad(p_R, embedding, part, retain_graph=True, is_grads_batched=True)
        columns.append((grad[:, 0, start:stop] * embedding[0, start:stop]).sum(-1).T.detach())
    return extrapolated(torch.cat(columns, dim=1), begin, after_forward, chosen, len(response))


def extrapolated(
    importance_PR: Tensor, begin: float, after_forward: float, chosen: Sequence[int], count: int
) -> Tensor | Sampled:
    """importance_PR itself where all response tokens were computed, else a Sampled that holds it.

    The Sampled's seconds are an estimate for all tokens: those of the forward pass, and `count` times the mean of the
    backward passes. begin, after_forward: readings of `device_time` before and after the forward pass; the backward
    passes end when this function is called. chosen: the indices of the response tokens that importance_PR has a column
    for. count: the number of all response tokens.
    """
    if len(chosen) == count:
        return importance_PR
    seconds = after_forward - begin + (device_time(importance_PR.device) - after_forward) * count / len(chosen)
    return Sampled(importance_PR, seconds, f"extrapolated from {len(chosen)} of {count} tokens")


def exact(module: PreTrainedModel, case: Case, places: Sequence[int]) -> Tensor:
    """The columns `places` of importance_PR, in that order, by autograd of the plain softmax.

    They are computed in the module's dtype, which should be float64.
    """
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
