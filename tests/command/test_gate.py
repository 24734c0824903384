"""`shiftbench gate` scores a pair or reads results, passes or fails, and refuses what cannot be compared."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hydra.utils import instantiate

from shiftbench import commands
from shiftbench.commands.gate import composed
from shiftbench.config import composition
from shiftbench.errors import InputError
from shiftbench.tracking import TrackedRun
from tests.command.conftest import arguments, same_results, scores, small_job
from tests.command.test_bad_input import refused

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("no_pictures")]


@pytest.fixture(scope="module")
def first(folders, tmp_path_factory):
    """The options of a job on the tiny pair that has been run once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["shiftbench"])
        job_options = small_job(folders, tmp_path_factory.mktemp("first"))
        assert commands.main(arguments(job_options)) == 0
    return job_options


@pytest.fixture
def job_options(first):
    """A copy of the options `first`, with the same store."""
    return dict(first)


@pytest.fixture
def reference(first, tmp_path):
    """A copy of the results of `first`, in which every score has n of at least 1.

    The tiny pair has scores with n = 0, which a reference must not have.
    """
    return changed(Path(first["out"]), tmp_path, set_n, "reference")


def set_n(document):
    """Raise n to at least 1 in every score."""
    for score in document["scores"]:
        score["n"] = max(1, score["n"])


def changed(folder, tmp_path, edit, name="changed"):
    """A copy of a results folder, with scores.json changed by edit(document)."""
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    document = scores(copy)
    edit(document)
    (copy / "scores.json").write_text(json.dumps(document))
    return copy


def lowered(document):
    """Lower the score `recognition` far below its interval."""
    for score in document["scores"]:
        if score["name"] == "recognition":
            score["value"] -= 1000


def gate(job_options, **changes):
    """The arguments of `shiftbench gate` for a job."""
    return ["gate", *arguments(job_options, **changes)[1:]]


def test_a_pair_against_its_own_earlier_run_passes(shiftbench, job_options, reference, tmp_path):
    files = {"summary": str(tmp_path / "a" / "gate.md"), "junit": str(tmp_path / "a" / "gate.xml")}
    words = gate(job_options, out=f'"{tmp_path}/it\'s new"', against=str(reference), **files)
    ran = shiftbench(*words, "~gate.rules.verbs")
    assert ran.code == 0, ran.err
    assert same_results(tmp_path / "it's new", job_options["out"])  # equal to what `shiftbench score` computed
    text = Path(files["summary"]).read_text()
    assert text.startswith("## shiftbench gate passed") and ran.out.endswith(text)
    suite = ElementTree.parse(files["junit"]).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["gate.md", "gate.xml"]


def test_a_score_below_the_interval_fails(shiftbench, reference, tmp_path):
    worse = changed(reference, tmp_path, lowered)
    files = [f"summary={tmp_path / 'gate.md'}", f"junit={tmp_path / 'gate.xml'}"]
    ran = shiftbench("gate", f"results={worse}", f"against={reference / 'scores.json'}", *files)
    assert ran.code == 1, ran.err
    assert "**FAILED** | `recognition`" in ran.out
    (failure,) = ElementTree.parse(tmp_path / "gate.xml").getroot().iter("failure")
    assert failure.get("type") == "not_below_interval"


def test_rules_can_be_changed_where_they_are_used(shiftbench, reference, tmp_path):
    both = [f"results={reference}", f"against={reference}"]
    assert shiftbench("gate", *both, "+gate.rules.recognition.at_least=1e9").code == 1
    own = "+gate.rules.own={finding: concept_rotation, score: none_share_fall, at_most: 1}"
    assert "`own`" in shiftbench("gate", *both, own).out
    assert "`verbs`" not in shiftbench("gate", *both, "~gate.rules.verbs").out
    assert "Gate `strict`" in shiftbench("gate", *both, "gate=strict").out


def test_a_run_in_mlflow_is_a_reference(shiftbench, job_options, reference, tmp_path):
    uri = f"tracking.uri=sqlite:///{tmp_path}/db/mlflow.db"
    tracking = instantiate(composition.compose("gate", ["pair=demo", "against=x", uri]).tracking)
    run_id = tracking.record(TrackedRun("tiny", {}, {}, {}, reference, None))
    assert shiftbench("gate", f"results={reference}", f"against={run_id}", uri).code == 0
    refused(shiftbench("gate", f"results={reference}", f"against={'0' * 32}", uri), "0" * 32, "scores.json")
    refused(shiftbench("gate", f"results={reference}", f"against={run_id}", "tracking=none"), "tracking is off")
    nowhere = f"tracking.uri=sqlite:///{tmp_path}/no/mlflow.db"
    refused(shiftbench("gate", f"results={reference}", f"against={run_id}", nowhere), "no database")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda d: d["pair"].update(prompt_set="0" * 64), ["prompt_set", "000000000000"]),
        (lambda d: d["pair"].update(settings="0" * 64), ["settings"]),
        (lambda d: d["pair"].update(max_new_tokens=7), ["max_new_tokens 7, here 6"]),
        (lambda d: d["pair"].pop("settings"), ["has no settings"]),
        (lambda d: d["versions"].update({"explain.attribution": "9"}), ["version of explain.attribution 9, here 1"]),
        (lambda d: d.update(scores=d["scores"][:1]), ["lacks the", "gate.rules."]),
        (lambda d: d.update(scores=[]), ["lacks pair, versions or scores"]),
        (lambda d: d.update(scores=[{"finding": "x"}]), ["a score cannot be read"]),
        (lambda d: d.update(schema="shiftbench/scores/9"), ["schema"]),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_scored(
    shiftbench, job_options, reference, tmp_path, edit, parts
):
    other = changed(reference, tmp_path, edit)
    job_options["store.path"] = str(tmp_path / "unused")
    refused(shiftbench(*gate(job_options, out=str(tmp_path / "new"), against=str(other))), str(other), *parts)
    assert not list((tmp_path / "unused").rglob("*.safetensors")) and not (tmp_path / "new").exists()
    refused(shiftbench("gate", f"results={reference}", f"against={other}"), str(other), *parts)


def test_other_library_versions_are_a_note_and_no_error(shiftbench, reference, tmp_path):
    other = changed(reference, tmp_path, lambda d: d["versions"].update(torch="0.1"))
    ran = shiftbench("gate", f"results={reference}", f"against={other}")
    assert ran.code == 0 and "- The reference was made with another torch." in ran.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["against=/no/such"], ["against=/no/such"]),
        (["against={folder}"], ["scores.json", "No such file"]),
        (["against={text}"], ["is not a scores.json of shiftbench"]),
        (["against={text}", "gate=defualt"], ["gate=defualt", "gate=default?"]),
        (["against={good}", "+gate.rules.recognition.at_laest=1"], ["at_laest", "'at_least'"]),
        (["against={good}", "gate.rules.verbs.finding=no_such"], ["no_such"]),
        (["against={good}", "suite=demo"], ["suite=demo", "results=DIR"]),
        (["against={good}", "-m"], ["-m"]),
        (["against={good}", "pair=demo"], ["demo"]),
        (["against={good}", "summary={folder}"], ["summary", "folder"]),
        (["against={good}", "junit={text}/x.xml"], ["junit"]),
        ([], ["against has no value"]),
    ],
)
def test_bad_input(shiftbench, reference, tmp_path, words, parts):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("hello")
    named = {"folder": tmp_path / "folder", "text": tmp_path / "text", "good": reference}
    refused(shiftbench("gate", f"results={reference}", *(word.format(**named) for word in words)), *parts)


def test_a_misspelt_option_and_a_finding_that_is_not_scored(shiftbench, job_options, reference):
    refused(shiftbench(*gate(job_options, against=str(reference)), "sumary=x"), "sumary", "'summary'")
    words = gate(job_options, against=str(reference))
    refused(shiftbench(*words, "gate.rules.verbs.finding=none"), "none")


def test_a_dry_run_judges_nothing(shiftbench, job_options, reference, tmp_path):
    ran = shiftbench(*gate(job_options, against=str(reference), out=str(tmp_path / "new"), dry_run="true"))
    assert ran.code == 0 and "estimated time" in ran.out and "gate passed" not in ran.out


def test_a_score_with_n_zero_fails_the_gate(shiftbench, first, reference):
    ran = shiftbench("gate", f"results={first['out']}", f"against={reference}")
    assert ran.code == 1 and "the score has no observations" in ran.out
    refused(shiftbench("gate", f"results={reference}", f"against={first['out']}"), "n = 0", "'verbs_over_null'")


def test_a_hostile_pair_name(shiftbench, reference, tmp_path):
    name = "<script>|`x`\n'\"/../@all"
    other = changed(reference, tmp_path, lambda d: d["pair"].update(name=name))
    ran = shiftbench("gate", f"results={other}", f"against={reference}", f"junit={tmp_path / 'g.xml'}")
    assert ran.code == 0 and not list(ElementTree.parse(tmp_path / "g.xml").getroot().iter("script"))


def test_an_unknown_option_is_named_also_without_a_pair() -> None:
    with pytest.raises(InputError, match=r"no option 'gate\.rules\.verbs\.at_most'; did you mean 'gate\.rules\.verbs"):
        composed(["results=a", "against=b", "gate.rules.verbs.at_most=1"])
