"""Word pairs agree with the procedure written out, and a head that was given verb pairs shows them."""

import pytest
import torch

from shiftbench import ops
from shiftbench.contracts.explainer import Inputs
from shiftbench.explain.attention import Cooccurrence, LayerPairs, Prepared, WordPairs, head_knowledge
from shiftbench.words import StaticVectors, Vocabulary, word_embeddings
from tests import reference

WORDS = tuple(
    "the to write poem story book code number letter name answer question list day people sea sky star Write word "
    "sentence French good morning output input make explain short about".split()
)
METHOD = WordPairs(k=8, reference=20, deviations=0.5)


def vectors(seed=0, unknown=("sea",)):
    generator = torch.Generator().manual_seed(seed)
    words = [word.lower() for word in WORDS if word not in unknown]
    return StaticVectors("random", {w: i for i, w in enumerate(words)}, torch.randn(len(words), 6, generator=generator))


def inputs(given=None):
    return Inputs((), Vocabulary(WORDS, "test"), given or vectors())


def test_pairs_are_those_of_the_procedure_written_out(any_model):
    given = vectors()
    found = Prepared(METHOD, any_model, inputs(given)).pairs(1)
    vector_VG, known_V = given.lookup(WORDS)
    embedding_VD = word_embeddings(any_model.views.embedding_in_VD(), any_model.tokenizer, WORDS)
    query_HDE, key_HDE = any_model.views.query_HDE(1), any_model.views.key_HDE(1)
    wanted = {}
    for head in range(query_HDE.shape[0]):
        for neuron in range(query_HDE.shape[2]):
            sides = embedding_VD @ query_HDE[head, :, neuron], embedding_VD @ key_HDE[head, :, neuron]
            wanted[head, neuron] = reference.neuron_word_pairs(*sides, WORDS, vector_VG, known_V, 8, 20, 0.5)
    assert sum(map(len, wanted.values())) == len(found) > 50
    for (head, neuron), pairs in wanted.items():
        here = [p for p in found if (p.head, p.neuron) == (head, neuron)]
        assert [p.score for p in here] == sorted((p.score for p in here), reverse=True)
        assert {(p.query_word, p.key_word) for p in here} == {(q, k) for q, k, _ in pairs}
        assert [p.score for p in here] == pytest.approx([score for _, _, score in pairs], abs=1e-5)


def test_the_cutoffs_are_mean_plus_population_deviations():
    given = vectors()
    vector_VG, known_V = given.lookup(WORDS)
    wanted = reference.cooccurrence_cutoffs(vector_VG, known_V, 20, 1.96)
    assert Cooccurrence(WORDS, given, 20, 1.96).cutoff_V.tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_same_word_in_two_spellings_is_no_pair(llama):
    found = Prepared(WordPairs(len(WORDS), 20, -9.0), llama, inputs()).pairs(0)
    assert found and not [p for p in found if p.query_word.lower() == p.key_word.lower()]


def test_a_word_without_a_vector_never_pairs(llama):
    found = Prepared(WordPairs(len(WORDS), 20, -9.0), llama, inputs()).pairs(0)
    assert "sea" not in {word for p in found for word in (p.query_word, p.key_word)}


def layer_pairs(words, rows):
    """rows: (head, neuron, query word, key word)."""
    place = {word: i for i, word in enumerate(words)}
    columns = zip(*((head, neuron, place[q], place[k]) for head, neuron, q, k in rows), strict=True)
    return LayerPairs(words, *(torch.tensor(column) for column in columns), torch.zeros(len(rows)))


def test_knowledge_is_what_occurs_more_than_once_in_a_head():
    words = ("a", "b", "poem", "sea", "sky", "write", "Write")
    pairs = [
        (0, 0, "Write", "poem"), (0, 1, "poem", "write"), (0, 1, "sea", "sky"),
        (1, 0, "write", "poem"), (2, 5, "a", "b"), (2, 5, "b", "a"),
    ]  # fmt: skip
    assert head_knowledge(layer_pairs(words, pairs)) == [(0, "poem", "write", 2), (2, "a", "b", 2)]


def test_knowledge_of_a_model_is_that_of_its_pairs_counted_one_by_one(any_model):
    found = Prepared(WordPairs(20, 20, -0.5), any_model, inputs()).pairs(0)
    assert len(head_knowledge(found)) > 50
    assert head_knowledge(found) == reference.head_knowledge(found)


def test_knowledge_of_no_pairs_is_none(llama):
    found = Prepared(WordPairs(3, 20, 99.0), llama, inputs()).pairs(0)
    assert list(found) == [] and head_knowledge(found) == []


def test_query_heads_with_equal_keys_have_equal_key_words(llama):
    """They are looked for once; every pair's key word is still among the words that activate its own head's key."""
    prepared = Prepared(METHOD, llama, inputs())
    embedding_VD, _ = prepared._prepare()
    sides_HDE = llama.views.query_HDE(1), llama.views.key_HDE(1)
    for side_HDE, found in zip(sides_HDE, prepared._top_words(embedding_VD, *sides_HDE), strict=True):
        wanted = ops.vocab_topk(embedding_VD, side_HDE.mT.flatten(0, 1), METHOD.k)
        assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


def test_a_head_given_a_verbs_relation_shows_it(llama):
    """Two neurons of head 2 are made to answer to 'write' on the query side and to 'poem' on the key side."""
    given = vectors()
    given.vectors_ND[given.index["poem"]] = given.vectors_ND[given.index["write"]] + 0.01
    before = METHOD.work(llama, inputs(given))[1].compute()
    embedding_VD = word_embeddings(llama.views.embedding_in_VD(), llama.tokenizer, WORDS)
    attention, gain_D = llama.module.model.layers[1].self_attn, llama.module.model.layers[1].input_layernorm.weight
    width = llama.module.config.head_dim or 8
    with torch.no_grad():
        for neuron in (0, 1):
            # Heads 2 and 3 share the second key head.
            attention.q_proj.weight[2 * width + neuron] = only(embedding_VD, "write") / gain_D
            attention.k_proj.weight[1 * width + neuron] = only(embedding_VD, "poem") / gain_D
    after = METHOD.work(llama, inputs(given))[1].compute()

    def held(unit):
        rows = zip(unit.arrays["head_N"].tolist(), unit.words["first"], unit.words["second"], strict=True)
        return set(rows)

    assert (2, "poem", "write") in held(after)
    assert (2, "poem", "write") not in held(before) or before.arrays["count_N"].sum() < after.arrays["count_N"].sum()


def only(embedding_VD, word):
    """A direction on which this word projects as 1 and the other words hardly do (least squares)."""
    target_V = torch.tensor([1.0 if w == word else 0.0 for w in WORDS])
    return torch.linalg.lstsq(embedding_VD, target_V[:, None]).solution[:, 0]


def test_a_unit_is_stored_under_what_it_depends_on(llama):
    keys = {work.key for work in METHOD.work(llama, inputs())}
    keys |= {work.key for work in METHOD.work(llama, inputs(vectors(seed=1)))}
    keys |= {work.key for work in WordPairs(9, 20, 0.5).work(llama, inputs())}
    keys |= {work.key for work in METHOD.work(llama, Inputs((), Vocabulary(WORDS[1:], "test"), vectors()))}
    assert len(keys) == 4 * llama.views.layers
