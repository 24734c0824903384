"""Finding 2 reads back verb pairs given to heads, counts as docs/mathematics.md, and is 0 for a model and itself."""

import numpy as np
import pytest
import torch

from shiftbench.errors import InputError
from shiftbench.findings.instruction_verbs import InstructionVerbs, verb_counts
from shiftbench.stats import Bootstrap, holm
from shiftbench.store.explanation import Explanation, Unit
from shiftbench.words import verbs

LAYERS, HEADS = 8, 4
FINDING = InstructionVerbs(None, "paper", Bootstrap(2000, 0.95, 0))


def explanation(pairs):
    """pairs: (layer, head, word, other word)."""
    units = {}
    for layer in range(LAYERS):
        here = [p for p in pairs if p[0] == layer]
        arrays = {
            "head_N": torch.tensor([p[1] for p in here], dtype=torch.int32),
            "count_N": torch.full((len(here),), 2, dtype=torch.int32),
            "pairs_H": torch.full((HEADS,), 5),
        }
        units[f"layer {layer}"] = Unit(arrays, {"first": [p[2] for p in here], "second": [p[3] for p in here]})
    return Explanation(units, {}, {})


def everywhere(words, heads):
    return [(layer, head, word, "thing") for layer in range(LAYERS) for head in heads for word in words]


def test_verbs_given_to_heads_of_tuned_are_found():
    instruction, general = verbs("instruction"), verbs("general")[:60]
    base = explanation(everywhere(general, [0, 1]))
    # Every instruction verb gains heads 0..2; each general verb gains head 2 and loses head 1.
    tuned = explanation(everywhere(instruction, [0, 1, 2]) + everywhere(general, [0, 2]))
    result = FINDING(base, tuned)
    score = result.scores[0]
    assert score.name == "verbs" and score.n == len(instruction)
    assert score.value == pytest.approx(1.0 - 0.5) and score.low > 0
    table = result.tables["table3"].set_index("quarter of the depth")
    assert table.loc["1", "instruction mean"] == 1.0 and table.loc["4", "general mean"] == 0.5
    assert FINDING(tuned, base).scores[0].value == pytest.approx(-0.5)


def test_a_shift_in_one_quarter_shows_in_that_quarter_only():
    instruction, general = verbs("instruction"), verbs("general")[:30]
    last = [(layer, 0, verb, "thing") for layer in (6, 7) for verb in instruction + general]
    tuned = [(layer, 0, verb, "thing") for layer in (6, 7) for verb in general]
    scores = {s.name: s for s in FINDING(explanation(tuned), explanation(last)).scores}
    assert scores["verbs_quarter_1"].n == 0 and scores["verbs_quarter_4"].n == 0  # general verbs did not change
    both = FINDING(explanation([]), explanation(last))
    by_quarter = {s.name: s for s in both.scores}
    assert by_quarter["verbs_quarter_1"].n == 0
    assert by_quarter["verbs_quarter_4"].value == 0.0 and by_quarter["verbs_quarter_4"].n > 0


def test_a_model_and_itself_score_exactly_zero():
    same = explanation(everywhere(verbs("instruction"), [0, 3]))
    for score in FINDING(same, same).scores:
        assert (score.value, score.low, score.high, score.p, score.n) == (0.0, 0.0, 0.0, None, 0)


def test_a_count_is_the_number_of_pairs_that_hold_the_verb_on_either_side():
    held = explanation(
        [(2, 1, "write", "letter"), (2, 1, "book", "write"), (2, 1, "ask", "thing"), (2, 3, "a", "write")]
    )
    count_VLH = verb_counts(held, ["write", "ask", "list"])
    assert count_VLH.shape == (3, LAYERS, HEADS)
    assert count_VLH[0, 2].tolist() == [0, 2, 0, 1] and count_VLH[1, 2, 1] == 1 and count_VLH[2].sum() == 0


def test_gained_pairs_are_those_with_an_instruction_verb():
    base = explanation([(0, 0, "book", "write"), (0, 0, "cat", "dog")])
    tuned = explanation([(0, 0, "book", "write"), (1, 0, "book", "write"), (1, 1, "cat", "dog"), (1, 2, "cat", "dog")])
    table = FINDING(base, tuned).tables["gained_pairs"]
    assert table.to_numpy().tolist() == [["book", "write", 1, 2, 1]]


def test_what_cannot_be_compared_is_not_said_to_be_unchanged():
    general = verbs("general")[:30]
    result = FINDING(explanation([]), explanation(everywhere(general, [0])))
    assert result.scores[0].n == 0 and "cannot be compared" in result.sentence
    assert "No head changed" in FINDING(explanation([]), explanation([])).sentence


def test_quarters_are_corrected_for_being_four_and_have_an_effect_size():
    instruction, general = verbs("instruction"), verbs("general")[:60]
    base = explanation(everywhere(general, [0, 1]) + everywhere(instruction[::2], [3]))
    tuned = explanation(everywhere(instruction, [0, 1, 2]) + everywhere(general[::2], [0, 2]))
    table = FINDING(base, tuned).tables["table3"]
    p, adjusted = table["Welch p, two-sided"], table["Holm p over quarters"]
    assert adjusted[:4].tolist() == holm(p[:4].tolist()) and adjusted[:4].gt(p[:4]).all() and adjusted.isna()[4]
    assert (table["d low"] < table["Cohen's d"]).all() and (table["Cohen's d"] < table["d high"]).all()
    assert (table["d low"] > 0).all()


@pytest.mark.long
def test_n_counts_the_smaller_kind_and_p_agrees_with_the_interval():
    """The general verbs are many, and say little about how the few instruction verbs would vary (issue 19, point 6)."""
    generator = np.random.default_rng(0)
    instruction, general = verbs("instruction")[:14], verbs("general")[:300]
    decided = set()
    for shift in (0.0, 0.1, 0.2, 0.3, 0.4):
        base, tuned = pair_with_shares(instruction, general, 0.5 + shift, generator)
        for score in FINDING(base, tuned).scores:
            assert score.n <= 14 and score.low <= score.value <= score.high
            assert (score.p < 0.05) == (score.low > 0 or score.high < 0), score
            decided.add(score.p < 0.05)
    assert decided == {True, False}


def pair_with_shares(instruction, general, share, generator):
    """Three of 32 heads change each verb; they gain it with the probability `share`, or 0.5 for general verbs."""
    gained, lost = [], []
    for word in [*instruction, *general]:
        for cell in generator.choice(LAYERS * HEADS, 3, replace=False):
            rose = generator.random() < (share if word in instruction else 0.5)
            (gained if rose else lost).append((cell // HEADS, cell % HEADS, word, "thing"))
    return explanation(lost), explanation(gained)


def test_heads_that_favour_one_kind_widen_the_interval():
    """All gains come from whole heads: other heads would have given another score, whichever the verbs."""
    instruction, general = verbs("instruction")[:14], verbs("general")[:60]
    by_head = {head: head % 2 == 0 for head in range(LAYERS * HEADS)}
    gained, lost = [], []
    for index, word in enumerate([*instruction, *general]):
        for cell in [(5 * index + step) % (LAYERS * HEADS) for step in range(4)]:
            rose = by_head[cell] if word in instruction else step_rose(index, cell)
            (gained if rose else lost).append((cell // HEADS, cell % HEADS, word, "thing"))
    score = FINDING(explanation(lost), explanation(gained)).scores[0]
    # Every instruction verb has two heads of either kind, so verbs do not vary at all.
    shares = FINDING(explanation(lost), explanation(gained)).tables["verbs"]
    assert shares.loc[shares["kind"] == "instruction", "share"].eq(0.5).all()
    assert score.high - score.low > 0.2


def test_the_larger_list_counts_more_verbs_and_takes_them_from_the_general_ones():
    larger = InstructionVerbs(None, "larger", Bootstrap(2000, 0.95, 0))
    added = [verb for verb in verbs("instruction_larger") if verb not in verbs("instruction")]
    tuned = explanation(everywhere([*added[:5], *verbs("general")[-20:]], [0, 1]))
    table = larger(explanation([]), tuned).tables["verbs"]
    kind = dict(zip(table["verb"], table["kind"], strict=True))
    assert {kind[verb] for verb in added[:5]} == {"instruction"} and len(kind) == 25
    with pytest.raises(InputError, match="verbs='more' must be one of paper, larger"):
        InstructionVerbs(None, "more", Bootstrap(2000, 0.95, 0))


def step_rose(index, cell):
    return (index * 7 + cell) % 3 == 0
