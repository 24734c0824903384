"""`method=auto` takes the cheapest faithful method, and never judges and uses it on one prompt."""

import dataclasses

import pytest

from shiftbench.config.composition import compose
from shiftbench.explain.attribution import Attribution
from shiftbench.findings import attribution_faithfulness
from shiftbench.findings.attribution_faithfulness import Faithful
from shiftbench.pipeline import choosing
from shiftbench.pipeline.job import build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.run import explain_and_score

CHECK = "findings.attribution_faithfulness.explain"


SMALL = (
    f"{CHECK}.methods=[grad_x_input,occlusion:delete]", f"{CHECK}.perturbations=[zero,mean]",
    f"{CHECK}.fractions=[0.5]", f"{CHECK}.draws=1", f"{CHECK}.tokens=3",
)  # fmt: skip


def job(tmp_path, *overrides, limit=8):
    given = [
        "pair=demo", "suite=core", "control=none", "tracking=none", f"dataset.limit={limit}", "response.beside=null",
        "response.max_new_tokens=4", f"store.path={tmp_path / 'store'}", "bootstrap.resamples=200",
        "~findings.instruction_verbs", "~findings.concept_rotation",
        "findings.instruction_recognition.explain.method=auto",
        *(SMALL if "~findings.attribution_faithfulness" not in overrides else ()), *overrides,
    ]  # fmt: skip
    return build(compose("config", given))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("auto"))
    return made, explain_and_score(made, Progress(False))


def test_it_is_chosen_on_other_prompts_than_it_is_used_on(outcome, monkeypatch):
    monkeypatch.setattr(attribution_faithfulness, "FEWEST_PROMPTS", 2)
    monkeypatch.setattr(choosing, "FEWEST_PROMPTS", 2)
    monkeypatch.setattr(Faithful, "is_faithful", property(lambda self: True))
    made = dataclasses.replace(outcome[0])
    done = explain_and_score(made, Progress(False))
    recognition, faithfulness = done.results
    judged = set(faithfulness.tables["prompts"]["prompt"])
    used = set(recognition.tables["prompts"]["prompt"])
    assert len(judged) == 2 and not judged & used and len(judged | used) == len(made.prompts) == 8
    (note,) = [note for note in done.notes if note.startswith("Attributions are by")]
    assert note.startswith("Attributions are by grad_x_input, which attribution_faithfulness chose on 2 prompts;")


def test_on_few_prompts_no_method_is_shown_to_be_faithful(outcome):
    _, done = outcome
    recognition, faithfulness = done.results
    assert len(set(faithfulness.tables["prompts"]["prompt"])) == 4  # half of the prompts at most
    assert len(recognition.tables["prompts"]) == 8, "the best method is used on all of them"
    assert faithfulness.unfaithful[faithfulness.chosen_method] == ["base", "tuned"]
    verdict = next(one for one in done.verdicts if one.claim.score == "recognition")
    assert verdict.word.value == "not trustworthy" and "not shown to find the tokens" in verdict.reasons[0]
    assert any("the best of 2 methods on 4 prompts; none of them is shown" in note for note in done.notes)
    assert any("at least 10 are needed" in note for note in done.notes)


def test_prompts_are_added_until_a_method_is_faithful(outcome, monkeypatch):
    made, done = outcome
    asked, enough = [], [0]

    def scored(session, finding, encoded):
        asked.append(finding.explain.prompts)
        unfaithful = {"grad_x_input": [] if asked[-1] >= enough[0] else ["base"]}
        return dataclasses.replace(done.results[1], chosen_method="grad_x_input", unfaithful=unfaithful)

    monkeypatch.setattr(choosing, "score", scored)
    finding = made.findings["attribution_faithfulness"]
    many = dataclasses.replace(made, prompts=[made.prompts[0]] * 200)
    session = dataclasses.make_dataclass("Session", ["job"])(many)
    cases = ((10, 80, [10]), (25, 80, [10, 20, 40]), (999, 50, [10, 20, 40, 50]), (999, None, [10, 20, 40, 80, 100]))
    for enough[0], most, wanted in cases:
        asked.clear()
        limited = dataclasses.replace(finding, explain=dataclasses.replace(finding.explain, prompts=most))
        choosing._judge(session, limited, None)
        assert asked == wanted


def test_what_was_chosen_is_what_is_computed(outcome):
    explain = Attribution(10, None, "tf32", "auto")
    methods = {each.name: each for each in job_check(outcome).explain.attributions}
    chosen = explain.chosen(methods["occlusion:delete"], frozenset("a"))
    assert (chosen.method_name, chosen.precision, chosen.leaves_out) == ("occlusion:delete", "float32", {"a"})
    assert explain.is_open and not chosen.is_open and explain.method_name == "auto"
    assert explain.chosen(methods["grad_x_input"], frozenset()).precision == "tf32"


def job_check(outcome):
    return outcome[0].findings["attribution_faithfulness"]


def test_without_a_check_the_papers_method_is_used_and_nothing_is_decided(tmp_path):
    done = explain_and_score(job(tmp_path, "~findings.attribution_faithfulness", limit=2), Progress(False))
    assert any("by grad_x_input, the paper's method, and nothing checks them" in note for note in done.notes)
    verdict = next(one for one in done.verdicts if one.claim.score == "recognition")
    assert verdict.word.value in ("not clear", "not trustworthy") and not verdict.evidence.checked
