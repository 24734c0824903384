"""The instruction changes places with its context, and nothing else of the prompt changes."""

import pytest

from shiftbench.contracts.explainer import Inputs
from shiftbench.explain.attribution import Attribution
from shiftbench.explain.position import PlacedAttribution, both_orders, unit_name
from shiftbench.prompts import Prompt, encode
from shiftbench.prompts.datasets.self_instruct import SelfInstruct


def prompt(text, instruction, context, **more):
    spans = [
        tuple((text.index(part), text.index(part) + len(part)) for part in parts) for parts in (instruction, context)
    ]
    return Prompt("a", text, *spans, **more)


def spelled(prompt, kind):
    return [prompt.text[start:stop] for start, stop in getattr(prompt, f"{kind}_spans")]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("Translate it.\n\nInput: le chat\n\nOutput:", "Input: le chat\n\nTranslate it.\n\nOutput:"),
        ("Be brief.\nTask: Translate it.\n\nText: le chat", "Be brief.\nText: le chat\n\nTask: Translate it."),
        ("Translate it.\nle chat", "le chat\nTranslate it."),
    ],
)
def test_the_instruction_moves_with_its_label(first, last):
    given = [prompt(text, ["Translate it."], ["le chat"]) for text in (first, last)]
    for one in given:
        orders = both_orders(one)
        assert [order.text for order in orders] == [first, last]
        for order in orders:
            assert spelled(order, "instruction") == ["Translate it."] and spelled(order, "context") == ["le chat"]


def test_spans_keep_what_they_spell_wherever_they_are():
    one = prompt(
        "Say A. Say B.\n\nInput: q, z\n\nOutput:", ["Say A.", "Say B."], ["q", "z"], key_spans=((4, 5), (11, 12))
    )
    _, moved = both_orders(one)
    assert moved.text == "Input: q, z\n\nSay A. Say B.\n\nOutput:"
    assert spelled(moved, "instruction") == ["Say A.", "Say B."] and spelled(moved, "context") == ["q", "z"]
    assert spelled(moved, "key") == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "instruction", "context"),
    [
        ("Translate le chat to English.", ["Translate"], ["le chat"]),  # on one line
        ("Say A.\nq\nSay B.\nz", ["Say A.", "Say B."], ["q", "z"]),  # interleaved
        ("Say A.", ["Say A."], []),
        ("x", [], ["x"]),
    ],
)
def test_a_prompt_without_a_second_order_has_none(text, instruction, context):
    assert both_orders(prompt(text, instruction, context)) is None
    assert PlacedAttribution(10, 64, "float32").own_prompts([prompt(text, instruction, context)]) == []


def test_packaged_prompts_are_their_own_words_in_another_order():
    moved = 0
    for one in SelfInstruct(None)():
        orders = both_orders(one)
        assert (orders is not None) == bool(one.context_spans)
        if orders is not None:
            first, last = orders
            moved += 1
            assert first == one and sorted(first.text) == sorted(last.text)
            assert spelled(first, "instruction") == spelled(last, "instruction")
            assert spelled(first, "context") == spelled(last, "context")
            assert last.text.index(spelled(last, "context")[0]) < last.instruction_spans[0][0]
    assert moved == 208


def test_each_answer_is_explained_in_both_orders_and_the_units_are_those_of_attribution(llama):
    explainer = PlacedAttribution(10, 64, "float32")
    one = prompt("Translate it.\n\nInput: le chat", ["Translate it."], ["le chat"])
    asked = [encode(order, llama.tokenizer) for order in explainer.own_prompts([one])]
    answers = [tuple(llama.tokenizer(text)["input_ids"]) for text in (" the cat", " a cat sat")]
    work = explainer.work(llama, Inputs(list(zip(asked, answers, strict=True)), None, None))
    assert [item.unit for item in work] == [unit_name("a", *pair) for pair in (
        ("first", "first"), ("first", "last"), ("last", "first"), ("last", "last"),
    )]  # fmt: skip
    plain = Attribution(10, 64, "float32")
    crossed = [(asked[0], answers[0]), (asked[0], answers[1]), (asked[1], answers[0]), (asked[1], answers[1])]
    assert [item.key for item in work] == [item.key for item in plain.work(llama, Inputs(crossed, None, None))]
    unit = work[2].compute()
    assert unit.arrays["level_PR"].shape == (len(asked[1].prompt_ids), len(answers[0]))
    assert bool(unit.arrays["instruction_P"].any())


def test_an_order_that_does_not_fit_takes_the_other_with_it(llama):
    explainer = PlacedAttribution(10, 64, "float32")
    one = prompt("Translate it.\n\nInput: le chat", ["Translate it."], ["le chat"])
    first, _ = (encode(order, llama.tokenizer) for order in explainer.own_prompts([one]))
    assert explainer.work(llama, Inputs([(first, (5, 6))], None, None)) == []
