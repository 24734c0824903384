"""Each formula of docs/mathematics.md once, in plain torch. This is the specification, and it is never optimised.

A formula computes in the dtype of its arguments. In float64 its result is what the code must agree with. In a narrower
dtype its error shows how large the code's error may be.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import torch
from torch import Tensor


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor) -> Tensor:
    """importance_PR ("Attribution of a response to its prompt")."""
    return (grad_RPD * embedding_PD).sum(-1).T


def importance_levels(importance_PR: Tensor, levels: int) -> Tensor:
    """level_PR ("Attribution of a response to its prompt")."""
    clipped_PR = importance_PR.clamp(min=0)
    return (levels * (clipped_PR / (clipped_PR.amax(0) + 1e-7))).ceil()


def importance_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    """density_P ("Attribution of a response to its prompt")."""
    cut_PR = torch.where(level_PR > cutoff, level_PR, 0.0)
    ratio_P = cut_PR.sum(1) / (cut_PR.pow(p).sum(1).pow(1 / p) + 1e-9)
    return ratio_P / (ratio_P.max() + 1e-9)


def vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values_CK, indices_CK) of the k largest |scores| of each direction; ties go to the lower index."""
    score_CV = direction_CD @ embedding_VD.T
    index_CK = score_CV.abs().argsort(dim=1, descending=True, stable=True)[:, :k]
    return score_CV.gather(1, index_CK), index_CK


def importance(module, prefix_ids, prompt_ids, response_ids):
    """importance_PR by one backward pass per response token through softmax, in the module's dtype."""
    with in_one_dtype(module):
        return _importance(module, prefix_ids, prompt_ids, response_ids)


@contextmanager
def in_one_dtype(module):
    """Within the block RMSNorm and softmax compute in their input's dtype; transformers computes both in float32."""
    softmax = torch.nn.functional.softmax
    norms = [part for part in module.modules() if type(part).__name__.endswith("RMSNorm")]
    for part in norms:
        eps = getattr(part, "variance_epsilon", None) or part.eps
        gain = part.weight + 1 if type(part).__name__.startswith("Gemma") else part.weight
        part.forward = lambda x, gain=gain, eps=eps: x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain
    torch.nn.functional.softmax = lambda x, dim, dtype=None: softmax(x, dim=dim)
    try:
        yield
    finally:
        torch.nn.functional.softmax = softmax
        for part in norms:
            del part.forward


def _importance(module, prefix_ids, prompt_ids, response_ids):
    embedder = module.get_input_embeddings()
    ids = torch.tensor([[*prefix_ids, *prompt_ids, *response_ids]])
    embedding = embedder(ids).detach().requires_grad_(True)
    probability = module(inputs_embeds=embedding).logits[0].softmax(-1)
    start, stop = len(prefix_ids), len(prefix_ids) + len(prompt_ids)
    columns = []
    for r, token in enumerate(response_ids):
        (grad,) = torch.autograd.grad(probability[stop - 1 + r, token], embedding, retain_graph=True)
        columns.append((grad[0, start:stop] * embedding[0, start:stop]).sum(-1).detach())
    return torch.stack(columns, dim=1)


def masked_log_probability(module, prefix_ids, prompt_ids, response_ids, masked, scale=1.0, replacement_PD=None):
    """log p of each response token by one forward pass; masked tokens get the replacement, or an embedding of 0.

    The embeddings of the prompt's other tokens are scaled.
    """
    ids = torch.tensor([[*prefix_ids, *prompt_ids, *response_ids]])
    start, stop = len(prefix_ids), len(prefix_ids) + len(prompt_ids)
    with torch.no_grad(), in_one_dtype(module):
        embedding = module.get_input_embeddings()(ids).clone()
        embedding[0, start:stop] *= scale
        masked_P = torch.as_tensor(masked, dtype=torch.bool)
        embedding[0, start:stop][masked_P] = 0.0 if replacement_PD is None else replacement_PD[masked_P]
        log = module(inputs_embeds=embedding).logits[0].log_softmax(-1)
    return torch.stack([log[stop - 1 + r, token] for r, token in enumerate(response_ids)])


def deleted_log_probability(module, prefix_ids, prompt_ids, response_ids, masked):
    """log p of each response token by one forward pass over the text without the masked prompt tokens."""
    left = [token for token, gone in zip(prompt_ids, masked, strict=True) if not gone]
    return masked_log_probability(module, prefix_ids, left, response_ids, [False] * len(left))


def occlusion(module, prefix_ids, prompt_ids, response_ids):
    """importance_PR: p minus p with the token's embedding 0, by one forward pass per token (docs/controls.md)."""
    one_PP = torch.eye(len(prompt_ids), dtype=torch.bool)
    given = (module, prefix_ids, prompt_ids, response_ids)
    full_R = masked_log_probability(*given, torch.zeros_like(one_PP[0])).exp()
    return torch.stack([full_R - masked_log_probability(*given, mask_P).exp() for mask_P in one_PP])


def number_of(objective, probability_V, token):
    """p, "log p", or "contrast": p less that of the most probable other token (Yin and Neubig 2022)."""
    if objective == "log p":
        return probability_V[token].log()
    if objective == "contrast":
        foil = max((v for v in range(len(probability_V)) if v != token), key=lambda v: float(probability_V[v].detach()))
        return probability_V[token] - probability_V[foil]
    return probability_V[token]


def gradient_at(module, prefix_ids, prompt_ids, response_ids, point_PD, objective="p"):
    """grad_RPD where the prompt's embeddings are point_PD, by one backward pass per response token."""
    ids = torch.tensor([[*prefix_ids, *prompt_ids, *response_ids]])
    start, stop = len(prefix_ids), len(prefix_ids) + len(prompt_ids)
    with in_one_dtype(module):
        embedding = module.get_input_embeddings()(ids).detach()
        embedding[0, start:stop] = point_PD
        embedding.requires_grad_(True)
        probability = module(inputs_embeds=embedding).logits[0].softmax(-1)
        grads = []
        for r, token in enumerate(response_ids):
            number = number_of(objective, probability[stop - 1 + r], token)
            grads.append(torch.autograd.grad(number, embedding, retain_graph=True)[0][0, start:stop])
    return torch.stack(grads)


def prompt_embeddings(module, prompt_ids):
    """embedding_PD of the prompt's tokens, as the module scales them."""
    return module.get_input_embeddings()(torch.tensor(prompt_ids)).detach()


def objective_x_input(module, prefix_ids, prompt_ids, response_ids, objective):
    """importance_PR: the gradient of log p, or of the contrast, times the embedding."""
    own_PD = prompt_embeddings(module, prompt_ids)
    return grad_x_input(gradient_at(module, prefix_ids, prompt_ids, response_ids, own_PD, objective), own_PD)


def smooth_gradients(module, prefix_ids, prompt_ids, response_ids, noises):
    """importance_PR: the gradient averaged over noises [P, D] on the prompt, times its embeddings (Smilkov 2017)."""
    own_PD = prompt_embeddings(module, prompt_ids)
    grads = [gradient_at(module, prefix_ids, prompt_ids, response_ids, own_PD + noise_PD) for noise_PD in noises]
    return grad_x_input(sum(grads) / len(grads), own_PD)


def integrated_gradients(module, prefix_ids, prompt_ids, response_ids, steps, start_PD=0.0):
    """importance_PR by the midpoint rule, from start_PD to the prompt's embeddings (Sundararajan et al. 2017)."""
    points = [((step + 0.5) / steps, 1 / steps) for step in range(steps)]
    return integral(module, prefix_ids, prompt_ids, response_ids, points, start_PD)


def integral(module, prefix_ids, prompt_ids, response_ids, points, start_PD):
    """importance_PR of integrated gradients by any rule, whose points are (share of the path, weight)."""
    own_PD = prompt_embeddings(module, prompt_ids)
    offset_PD = own_PD - start_PD
    total = 0.0
    for share, weight in points:
        grad_RPD = gradient_at(module, prefix_ids, prompt_ids, response_ids, start_PD + share * offset_PD)
        total = total + weight * grad_x_input(grad_RPD, offset_PD)
    return total


def cooccurrence_cutoffs(vectors, known, reference, deviations):
    """For each word mean + deviations * population standard deviation of its cosines.

    These are with the first `reference` words, as far as they have a vector.
    """
    cutoffs = []
    for i in range(len(vectors)):
        if not known[i]:
            cutoffs.append(float("inf"))
            continue
        others = [cosine(vectors[i], vectors[j]) for j in range(min(reference, len(vectors))) if known[j]]
        mean = sum(others) / len(others)
        cutoffs.append(mean + deviations * (sum((c - mean) ** 2 for c in others) / len(others)) ** 0.5)
    return cutoffs


def cosine(a, b):
    """Cosine of two vectors."""
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def neuron_word_pairs(query_activation, key_activation, words, vectors, known, k, reference, deviations):
    """[(query word, key word, cosine)] of one neuron pair, ordered by descending cosine."""
    cutoffs = cooccurrence_cutoffs(vectors, known, reference, deviations)

    def top(activation):
        return sorted(range(len(words)), key=lambda i: (-abs(float(activation[i])), i))[:k]

    kept = []
    for q in top(query_activation):
        for w in top(key_activation):
            if words[q].lower() == words[w].lower() or not (known[q] and known[w]):
                continue
            if float(query_activation[q]) * float(key_activation[w]) <= 0:
                continue
            score = cosine(vectors[q], vectors[w])
            if score > cutoffs[q] and score > cutoffs[w]:
                kept.append((words[q], words[w], score))
    return sorted(kept, key=lambda pair: -pair[2])


def cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor]:
    """(cosine_VV, whether the two words co-occur)."""
    cosine_VV = unit_VG @ unit_VG.T
    above_VV = (cosine_VV > cutoff_V) & (cosine_VV > cutoff_V[:, None])
    return cosine_VV, above_VV & (spelling_V != spelling_V[:, None])


def word_pairs(cosine_VV, kept_VV, query_value_CK, query_index_CK, key_value_CK, key_index_CK):
    """[(neuron, query word, key word, cosine)] by neuron, then descending cosine, then query and key position."""
    found = []
    for e in range(len(query_index_CK)):
        here = []
        for i, q in enumerate(query_index_CK[e].tolist()):
            for j, k in enumerate(key_index_CK[e].tolist()):
                if kept_VV[q, k] and float(query_value_CK[e, i]) * float(key_value_CK[e, j]) > 0:
                    here.append((-float(cosine_VV[q, k]), i, j, q, k))
        found += [(e, q, k, -score) for score, _, _, q, k in sorted(here)]
    return found


def head_knowledge(pairs):
    """[(head, word, word, count)] of a head's unordered, lower-cased pairs that occur more than once."""
    counts = Counter((pair.head, *sorted((pair.query_word.lower(), pair.key_word.lower()))) for pair in pairs)
    return [(*key, count) for key, count in sorted(counts.items()) if count > 1]


def random_bits(seed: int, draw: int, position: int) -> int:
    """32 random bits: half of an output of SplitMix64 (Steele, Lea and Flood 2014), one stream per draw."""
    golden, ones = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & ones
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & ones
        return x ^ (x >> 31)

    state = mix((mix((seed + golden) & ones) + golden * (draw + 1)) & ones)
    both = mix((state + golden * (position // 2 + 1)) & ones)
    return both >> 32 if position % 2 else both & (2**32 - 1)


def resampled_means(strata: list[list[float]], seed: int, draw: int) -> list[float]:
    """For each stratum the mean of as many draws with replacement as it has values."""
    means, position = [], 0
    for values in strata:
        drawn = [values[len(values) * random_bits(seed, draw, position + i) >> 32] for i in range(len(values))]
        position += len(values)
        means.append(sum(drawn) / len(drawn))
    return means


def principal_components(rows, count):
    """Right singular vectors of the centred rows, and their shares of the variance."""
    centred = rows.double() - rows.double().mean(0)
    _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
    return vectors[:count], (values**2 / (values**2).sum())[:count]
