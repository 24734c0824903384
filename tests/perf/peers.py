"""The libraries for attribution and search that ours is compared with, each called as its documentation says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shiftbench.models import Model
from shiftbench.perf.cases import Case, attention_implementation


class Inseq:
    """inseq's input_x_gradient of the probability, summed over the width of the embedding."""

    def __init__(self, model: Model) -> None:
        import inseq

        with attention_implementation(model.module, "sdpa"):
            self.model, self.inseq = (
                model,
                inseq.load_model(model.module, "input_x_gradient", tokenizer=model.tokenizer),
            )

    def __call__(self, case: Case) -> Tensor:
        with attention_implementation(self.model.module, "sdpa"):
            found = self.inseq.attribute(
                *case.texts, attributed_fn="probability", show_progress=False, pretty_progress=False
            )
        importance = found.sequence_attributions[0].target_attributions.sum(-1)  # [P + R, R]
        return importance[: len(case.prompt.prompt_ids)]


class Captum:
    """captum's gradient times activation of the embeddings.

    It is of the log-probability, so a column is our column divided by the token's probability.
    """

    def __init__(self, model: Model) -> None:
        from captum.attr import LayerGradientXActivation, LLMGradientAttribution

        self.model = model
        layer = LayerGradientXActivation(model.module, model.module.get_input_embeddings())
        self.method = LLMGradientAttribution(layer, model.tokenizer)

    def __call__(self, case: Case) -> Tensor:
        from captum.attr import TextTokenInput

        given = TextTokenInput(case.texts[0], self.model.tokenizer)
        with attention_implementation(self.model.module, "sdpa"):
            found: Any = self.method.attribute(given, target=torch.tensor(case.response))
        return found.token_attr.T.detach()


def argsort_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The full product, sorted by magnitude."""
    score_CV = direction_CD @ embedding_VD.T
    index_CK = score_CV.abs().argsort(dim=1, descending=True)[:, :k]
    return score_CV.gather(1, index_CK), index_CK


def torch_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The full product, and torch's topk of its magnitudes."""
    score_CV = direction_CD @ embedding_VD.T
    index_CK = torch.topk(score_CV.abs(), k, dim=1).indices
    return score_CV.gather(1, index_CK), index_CK


def faiss_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """faiss's exact search by inner product, once for each sign; both results are merged by magnitude."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    embedding, direction = embedding_VD.numpy(), direction_CD.numpy()
    high, high_index = faiss.knn(direction, embedding, k, metric=faiss.METRIC_INNER_PRODUCT)
    low, low_index = faiss.knn(-direction, embedding, k, metric=faiss.METRIC_INNER_PRODUCT)
    value = torch.cat((torch.from_numpy(high), -torch.from_numpy(low)), dim=1)
    index = torch.cat((torch.from_numpy(high_index), torch.from_numpy(low_index)), dim=1)
    order = torch.topk(value.abs(), k, dim=1).indices
    return value.gather(1, order), index.gather(1, order)
