"""`perf check` fails where a hot spot is slower or computes more, and nowhere else."""

import dataclasses
import json
import sys

import pytest
from hydra.utils import instantiate

from shiftbench import commands
from shiftbench.commands import perf
from shiftbench.config import composition
from shiftbench.errors import InputError
from shiftbench.perf import baseline, hot_spots, measure
from shiftbench.perf.baseline import Baseline
from shiftbench.perf.check import CONFIRMING, PROCESSES, Check, Counter, judge_counters, judge_ratios, missing_counters
from shiftbench.perf.check import check as perf_check
from shiftbench.perf.history import picture
from shiftbench.perf.measure import Measured
from shiftbench.perf.statistic import Ratio
from shiftbench.tracking.reading import past_metrics
from tests.perf.false_alarms import slower

COUNTS = {"spot": {"flops": 100, "bytes": 8}}
BASE = {"spot over yard": 1.0}


def found(value, counts=COUNTS):
    return Measured("here", "2", {"spot over yard": Ratio(value, value - 0.01, value + 0.01, 21)}, counts)


def verdict(first, second):
    requests = []

    def again(request):
        requests.append(request)
        return found(second)

    (judged,) = judge_ratios(BASE, found(first), again)
    return judged, requests


EVERYTHING = measure.MeasurementRequest(None, {})


def test_a_ratio_that_is_slow_in_every_process_fails():
    judged, requests = verdict(1.2, 1.18)
    assert judged.failed and judged.slowdown == 1.18
    assert [(request.keys, request.least) for request in requests] == [(["spot over yard"], CONFIRMING)] * PROCESSES


def test_a_ratio_that_is_slow_in_one_process_passes_with_a_remark():
    judged, requests = verdict(1.2, 1.01)
    assert not judged.failed and "another process" in judged.verdict and len(requests) == 1


def test_a_ratio_that_is_not_slow_is_not_measured_again():
    judged, requests = verdict(1.05, 9)
    assert not judged.failed and judged.verdict == "ok" and not requests


@pytest.mark.parametrize(("count", "fails"), [(100, False), (99, False), (101, True)])
def test_a_counter_is_a_hard_limit(count, fails):
    (first, second) = judge_counters(Baseline(COUNTS, {}), found(1, {"spot": {"flops": count, "bytes": 8}}))
    assert first.failed is fails and not second.failed
    assert Check("here", "2", False, [], [first, second], []).passed is not fails


def test_a_new_and_a_missing_hot_spot_are_reported():
    (new,) = judge_counters(Baseline({}, {}), found(1, {"new": {"flops": 1}}))
    assert new == Counter("new", "flops", None, 1) and not new.failed and "record" in new.verdict
    assert not Check("here", "2", True, [], [], ["spot over yard"]).passed


def test_a_counter_of_the_baseline_that_is_counted_no_more_is_missing():
    """Otherwise a counter that is lost by a change of a name passes unseen."""
    baseline_file = Baseline({"spot": {"flops": 1, "layers": 3}, "gone": {"flops": 1}}, {})
    assert missing_counters(baseline_file, found(1, {"spot": {"flops": 1}})) == ["gone", "spot.layers"]


def test_a_recorded_baseline_is_read_back_and_keeps_other_machines(tmp_path):
    before = Baseline({}, {"other": {"ratios": {"a": {"value": 2.0}}}})
    found_baseline = baseline.recorded([found(1.0), found(1.3), found(1.1)], before)
    baseline.write(found_baseline, tmp_path / "b.json")
    back = baseline.read(str(tmp_path / "b.json"))
    assert back.ratios("here") == {"spot over yard": 1.1} and back.ratios("other") == {"a": 2.0}
    assert back.counters == COUNTS and back.ratios("unknown") == {}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "cannot read the file"),
        ("{not json", "not a baseline"),
        ("[]", "schema"),
        ('{"schema": "shiftbench/scores/1"}', "schema"),
        ('{"schema": "shiftbench/perf/1"}', "counters"),
        ('{"schema": "shiftbench/perf/1", "counters": {}, "machines": {"m": {"ratios": {"a": {"value": "x"}}}}}', "x"),
        ('{"schema": "shiftbench/perf/1", "counters": {}, "machines": {"m": {"ratios": {"a": {"value": 0}}}}}', "m"),
        ('{"schema": "shiftbench/perf/1", "counters": {"a": {"b": 1.5}}, "machines": {}}', "whole number"),
        ('{"schema": "shiftbench/perf/1", "counters": {"a": 3}, "machines": {}}', "not a baseline"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_refused_before_anything_is_measured(tmp_path, capsys, text, part):
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    assert commands.main(["perf", "check", f"baseline={path}", "tracking=none"]) == 2
    said = capsys.readouterr().err
    assert f"baseline={path}" in said and part in said and "Traceback" not in said
    with pytest.raises(InputError):
        baseline.read(str(path))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["perf", "chekc"], "'check'"),
        (["perf", "record", "processes=0"], "processes=0"),
        (["perf", "check", "basline=x"], "'baseline'"),
    ],
)
def test_bad_input(capsys, words, part):
    assert commands.main(words) == 2
    assert part in capsys.readouterr().err


def test_the_packages_baseline_has_the_ratios_that_are_measured():
    packaged = baseline.read(None)
    keys = {key for spot in hot_spots.hot_spots() for key in spot.keys().values()}
    assert packaged.machines and all(set(packaged.ratios(machine)) == keys for machine in packaged.machines)


def test_the_history_is_drawn_as_svg():
    svg = picture([{"a": 1.0, "b": 2.0}, {"a": 1.1}, {"a": 0.9, "b": 2.2}], {"a": 1.0, "b": 2.0}, "<amd> & co")
    assert svg.startswith("<svg") and "<amd>" not in svg and "&lt;amd&gt;" in svg
    assert picture([{}], {"a": 1.0}, "m") == ""


@pytest.mark.long
def test_measurements_are_kept_in_mlflow_and_drawn_from_there(tmp_path, capsys):
    words = [f"out={tmp_path / 'out'}", f"tracking.uri=sqlite:///{tmp_path}/db/mlflow.db"]
    config = composition.compose("perf", words)
    tracking = instantiate(config.tracking)
    tracking.check()
    base = {"spot over paper's loop": 2.0}
    for value in (2.0, 2.2):
        perf.keep(config, tracking, "amd & co", {"spot over paper's loop": value}, base, {"verdict": "passed"})
    assert "history of 1 measurements" in (said := capsys.readouterr().out) and "history of 2 measurements" in said
    assert past_metrics(tracking, "perf", {"machine": "amd & co"}, 9) == [
        {"ratio.spot over paper_s loop": value} for value in (2.0, 2.2)
    ]
    assert past_metrics(tracking, "perf", {"machine": "another"}, 9) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["history.svg", "perf.json"]
    assert len(list((tmp_path / "db").rglob("artifacts/history.svg"))) == 2


def test_a_failing_measuring_process_raises_its_message():
    with pytest.raises(RuntimeError, match="no such hot spot"):
        measure.measured(
            measure.MeasurementRequest(None, {}), [sys.executable, "-c", "raise SystemExit('no such hot spot')"]
        )


# The functions below run in processes of their own, with two hot spots that take a millisecond.


def two_spots():
    return [hot_spots.word_pairs(), hot_spots.density()]


def two_slower_spots():
    return [dataclasses.replace(spot, ours=slower(spot.ours)) for spot in two_spots()]


def program(maker):
    code = f"import sys; from tests.perf import test_check as t; t.measure.main(sys.argv[1], t.{maker})"
    return [sys.executable, "-c", code]


@pytest.mark.perf
def test_a_planted_fifth_is_seen_in_fresh_processes_and_unchanged_code_passes():
    """The baseline is the ratios that were measured a moment before."""
    machine = measure.this_machine()
    base = baseline.recorded([measure.measured(EVERYTHING, program("two_spots")) for _ in range(3)], None)
    assert base.ratios(machine)
    assert perf_check(base, machine, program("two_spots")).passed
    slow = perf_check(base, machine, program("two_slower_spots"))
    assert [one.failed for one in slow.ratios] == [True, True] and not slow.passed


def test_an_unknown_class_of_machine_has_its_counters_checked_and_nothing_recorded(tmp_path, capsys, monkeypatch):
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"schema": baseline.SCHEMA, "counters": COUNTS, "machines": {}}))
    monkeypatch.setattr(
        "shiftbench.perf.check.measured", lambda request, program: found(1) if not request.keys else None
    )
    words = ["perf", "check", f"baseline={path}", f"out={tmp_path / 'out'}", "tracking=none"]
    assert commands.main(words) == 0
    said = capsys.readouterr().out
    assert "no ratios of this class" in said and "nothing was recorded" in said.replace("\n", " ")
    assert not (tmp_path / "out").exists()
