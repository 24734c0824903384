"""Components are those of the SVD, orthonormal, and read a planted concept in the vocabulary."""

import pytest
import torch

from shiftbench.annotate.lexical import LexicalAnnotator
from shiftbench.contracts.explainer import Inputs
from shiftbench.explain.feedforward import Concepts, component_words, principal_components, unit_word_embeddings
from shiftbench.store.explanation import Unit
from shiftbench.words import Vocabulary
from tests import reference
from tests.explain.test_attention import WORDS, vectors


class Nothing:
    """An annotator that gives every concept one label."""

    labels = ("none",)
    digest = "nothing"
    seed_words = ()

    def annotate(self, concepts, vectors, vocabulary):
        return Unit({"label_CL": torch.ones(len(concepts), 1, dtype=torch.bool)}, {"label": ["none"]})


METHOD = Concepts(rank=300, top=5, annotator=Nothing())
INPUTS = Inputs((), Vocabulary(WORDS, "test"), vectors())


@pytest.mark.parametrize(
    ("rows", "width", "rank"), [(64, 32, 300), (64, 32, 3), (64, 32, 1), (7, 32, 16), (500, 33, 10)]
)
def test_components_are_those_of_the_svd(rows, width, rank):
    down_FD = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows)) + 3.0
    component_CD, ratio_C = principal_components(down_FD, rank)
    count = min(rank, width // 2)
    wanted_CD, wanted_C = reference.principal_components(down_FD, count)
    assert component_CD.shape == (count, width)
    assert torch.allclose(component_CD @ component_CD.T, torch.eye(count, dtype=torch.float64), atol=1e-10)
    full = min(count, rows - 1)  # beyond the rows' rank the variance is 0 and any direction will do
    assert torch.allclose((component_CD[:full] * wanted_CD[:full]).sum(1).abs(), torch.ones(full).double(), atol=1e-8)
    assert torch.allclose(ratio_C[:full], wanted_C[:full], rtol=1e-8)
    assert (component_CD.gather(1, component_CD.abs().argmax(1, keepdim=True)) > 0).all()


def test_a_layers_unit_holds_components_and_their_words(any_model):
    unit = METHOD.work(any_model, INPUTS)[0].compute()
    component_CD = unit.arrays["component_CD"]
    assert component_CD.shape == (16, 32) and unit.arrays["index_CK"].shape == (16, 5)
    unit_VD = unit_word_embeddings(any_model, WORDS)
    projection_CV = component_CD @ unit_VD.T
    wanted = projection_CV.abs().topk(5, dim=1).values
    assert torch.allclose(unit.arrays["value_CK"].abs(), wanted, atol=1e-6)
    named = [WORDS[i] for row in unit.arrays["index_CK"].tolist() for i in row]
    assert unit.words["word"] == named and unit.words["label"] == ["none"]


def test_a_planted_concept_is_the_first_component(llama):
    """Rows that mostly lie along one word's output embedding make it the first component."""
    unit_VD = unit_word_embeddings(llama, WORDS)
    place = WORDS.index("poem")
    weight = llama.module.model.layers[0].mlp.down_proj.weight
    with torch.no_grad():
        strength = torch.linspace(-5, 5, weight.shape[1])
        weight.copy_(0.01 * weight + torch.outer(unit_VD[place], strength))
    component_CD, ratio_C = principal_components(llama.views.down_FD(0), 4)
    assert float(ratio_C[0]) > 0.99
    _, index_CK = component_words(unit_VD, component_CD, 1)
    assert WORDS[int(index_CK[0, 0])] == "poem"


def test_a_rerun_gives_the_same_bytes(llama):
    first, second = (METHOD.work(llama, INPUTS)[1].compute() for _ in range(2))
    assert all(torch.equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_the_annotators_digest_is_in_the_key(llama):
    class Other(Nothing):
        digest = "other"

    one = METHOD.work(llama, INPUTS)[0].key
    assert Concepts(300, 5, Other()).work(llama, INPUTS)[0].key != one
    assert Concepts(299, 5, Nothing()).work(llama, INPUTS)[0].key != one
    assert hasattr(LexicalAnnotator, "digest")
