"""Arguments are read as the user meant them, or the message says what to type. Every command with options is tested."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from shiftbench.config import composition, overrides, settings
from shiftbench.config.instantiation import instantiate
from shiftbench.errors import InputError
from tests.command.conftest import arguments, scores
from tests.command.test_bad_input import refused

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("no_pictures")]

NAMES = [
    "v1.0 (final)", "x=y", "x=y,z", "a,b", "a[1]", "[x]", "a{b}", "it's", 'q"x', "50%", "a#b", "a$b", "a${b}c",
    "a\\${x}", "a\\b", "a b", "trailing ", "a;b", "a&b", "a|b", "a<b>", "a!b", "a`b", "a^b", "Modèle", "日本語", "😀",
    "2024", "1e3", "true", "a\tb", "-x", "choice(1,2)", "a:b", "~x",
]  # fmt: skip


def composed(*words, name="config", flags=()):
    return composition.compose(name, overrides.read(words, name, flags))


@pytest.mark.parametrize("name", NAMES)
def test_a_path_of_any_characters_is_taken_as_it_is(tmp_path, monkeypatch, name):
    """An absolute or relative path of an existing model, and a path of results that do not exist yet."""
    place = tmp_path / name
    place.mkdir()
    config = composed("pair=local", f"pair.base={place}", f"pair.tuned={place}", f"store.path={place}")
    assert config.pair.base == config.pair.tuned == config.store.path == str(place)
    assert instantiate(config.pair).tuned.path == str(place)
    assert OmegaConf.create(OmegaConf.to_yaml(config.pair.base_model, resolve=True))
    if "${" not in name:  # in a path that does not exist, ${...} inserts a value of the configuration
        assert composed("pair=demo", f"out={tmp_path}/new/{name}").out == f"{tmp_path}/new/{name}"
    monkeypatch.chdir(tmp_path)
    if name != "~x":  # ~x is the home folder of the user x
        assert composed("pair=local", f"pair.base={name}", "pair.tuned=x").pair.base == name
    chain = composed(f"chain=[{place},b/c,{place}]", name="chain").chain
    assert list(chain) == [str(place), "b/c", str(place)]


def test_hydras_own_syntax_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", "/some/where")
    words = [
        "pair=demo", "out=null", "store.path='/q r'", "findings.concept_rotation.ranks=[1,2]", "seed=3",
        "dataset.limit=null", "+gate.rules.own={finding: x, score: y, at_least: 0}", "~findings.instruction_verbs",
        "pair.base=${oc.env:WHERE}", 'pair.name="it\'s"', "+finding@findings.position=instruction_position",
        "hydra.searchpath=[file:///tmp]", "response.beside=", "dataset.limit=",
    ]  # fmt: skip
    assert overrides.read(words, "config") == words
    sweep = [
        "-m",
        "pair=demo,demo_lora",
        "seed=range(1,4)",
        "dataset=glob(*)",
        "pair.base=/a,/b",
        "hydra/launcher=basic",
    ]
    assert overrides.read(sweep, "config", overrides.MULTIRUN) == sweep


def test_reading_arguments_twice_changes_nothing(tmp_path):
    """`shiftbench gate` reads its arguments and passes them on to `shiftbench score`, which reads them again."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        once = overrides.read([f"pair.base={tmp_path / name}", f"out={tmp_path}/{name}"], "gate")
        assert overrides.read(once, "config") == once


def test_a_sweep_over_paths_of_any_characters(tmp_path):
    for name in ("v1.0 (final)", "x=y,z", "日本語"):
        (tmp_path / name).mkdir()
    paths = ",".join(str(tmp_path / name) for name in ("v1.0 (final)", "x=y,z", "日本語"))
    [_, word] = overrides.read(["-m", f"pair.tuned={paths}"], "config", overrides.MULTIRUN)
    assert list(overrides._parsed(word).sweep_string_iterator()) == [
        f"'{tmp_path}/v1.0 (final)'", f"'{tmp_path}/x=y,z'", f"'{tmp_path}/日本語'",
    ]  # fmt: skip


def test_a_whole_job_runs_below_a_path_of_any_characters(shiftbench, job_options, folders, tmp_path):
    place = tmp_path / "v1.0 (final), it's #1 ${x} = 日本語"
    for name in ("base", "tuned"):
        shutil.copytree(folders / name, place / name)
    for name in ("prompts.jsonl", "vocabulary.tsv"):
        shutil.copy(folders / name, place / name)
    changed = {
        "pair.base": str(place / "base"), "pair.tuned": str(place / "tuned"), "store.path": str(place),
        "dataset.path": str(place / "prompts.jsonl"), "vocabulary.path": str(place / "vocabulary.tsv"),
    }  # fmt: skip
    ran = shiftbench(*arguments(job_options, **changed))
    assert ran.code == 0, ran.err
    assert scores(job_options["out"])["pair"]["tuned"] == str(place / "tuned")
    again = shiftbench(*arguments(job_options, **changed, seed="0"), "-m")
    assert again.code == 0 and "0 units explained" in again.err, again.err


def test_the_message_about_an_unreadable_argument_shows_what_to_type():
    with pytest.raises(InputError) as raised:
        overrides.read(["response.mode=own (b)"], "config")
    typed = str(raised.value).rpartition("type ")[2]
    [word] = shlex.split(typed)
    assert composed("pair=demo", word).response.mode == "own (b)"
    with pytest.raises(InputError, match="add -m to run one job for each; where the comma") as raised:
        overrides.read(["pair.tuned=/a,/b"], "config")
    [word] = shlex.split(str(raised.value).rpartition("type ")[2])
    assert composed("pair=local", "pair.base=x", word).pair.tuned == "/a,/b"


PAIRS = ("pair=demo", "demo_continued", "vicuna_7b")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["score", "demo"], ["did you mean pair=demo?", *PAIRS]),
        (["score", "dmeo"], ["did you mean pair=demo?", *PAIRS]),
        (["score", "--pair", "demo"], ["did you mean pair=demo?", *PAIRS]),
        (["score", "--pair=demo"], ["did you mean pair=demo?", *PAIRS]),
        (["score", "--pair=dmeo"], ["did you mean pair=demo?", *PAIRS]),
        (["score", "pair=dmeo"], ["there is no pair=dmeo", "did you mean pair=demo?", *PAIRS[1:]]),
        (["score", "pair=demo", "suite=nope"], ["suite=nope", "all", "core", "smoke"]),
        (["score", "pair=demo", "suite=smok"], ["did you mean suite=smoke?", "core"]),
        (["score", "pair=demo", "--dry-run"], ["did you mean dry_run=true?"]),
        (["score", "pair=demo", "dry_run"], ["did you mean dry_run=true?"]),
        (["score", "pair=demo", "findings.x=1"], ["'findings.x'", "findings.instruction_recognition"]),
        (["score", "pair=demo", "findings.concept_rotation.rank=1"], ["'findings.concept_rotation.ranks'?"]),
        (["score", "pair=demo", "max_new_tokens=3"], ["did you mean 'response.max_new_tokens'?"]),
        (["score", "pair=demo", "+pair.nmae=x"], ["nmae"]),
        (["score", "pair=demo", "pair.name=${pair.name}"], ["pair.name"]),
        (["score", "pair=demo", "gpus=2"], ["gpus=2", "-m"]),
        (["socre"], ["did you mean 'score'?", "leaderboard", "gate"]),
        (["stor", "list"], ["did you mean 'store'?"]),
        (["store", "lits"], ["did you mean 'list'?", "prune"]),
        (["store", "list", "repair"], ["did you mean repair=true?"]),
        (["store", "prune", "--dry-run"], ["did you mean dry_run=true?"]),
        (["store", "prune", "dryrun=true"], ["did you mean 'dry_run'?"]),
        (["store", "list", "older_than_days=3"], ["has no effect for store list"]),
        (["store", "verify", "repair=true", "dry_run=true"], ["has no effect for store verify"]),
        (["gate", "demo", "against=x"], ["did you mean pair=demo?", "vicuna_7b"]),
        (["gate", "--pair=demo"], ["did you mean pair=demo?"]),
        (["gate", "pair=demo", "against=x", "gate=defualt"], ["did you mean gate=default?", "strict"]),
        (["chain", "-m", "chain=[a,b]"], ["-m", "score -m"]),
        (["chain", "chain=[a,b]", "control=permuted"], ["no effect for a chain"]),
        (["chain", "chain=[a,b]", "pair.name=x"], ["no effect for a chain"]),
        (["mixture", "base=a", "tuned=[b,c]", "response.beside=own"], ["no effect for mixtures"]),
        (["leaderboard", "publish=a", "out=b"], ["no effect with publish="]),
        (["leaderboard", "--publish=x"], ["did you mean publish=x?"]),
        (["perf", "check", "processes=3"], ["no effect for perf check"]),
        (["perf", "chekc"], ["did you mean 'check'?"]),
        (["sync", "--root", "x"], ["did you mean root=x?"]),
        (["published", "maps"], ["'maps'", "path"]),
        (["sweep", "status", "runs"], ["'runs'", "out"]),
        (["annotate", "check", "--annotate=openai"], ["did you mean annotate=openai?", "lexical"]),
    ],
)  # fmt: skip
def test_messages_suggest_the_likely_argument_and_list_the_choices(shiftbench, words, parts):
    refused(shiftbench(*words), *parts)


@pytest.mark.parametrize(
    "words",
    [
        ["score", "pair=demo", "out={}"],
        ["score", "pair=demo", "store.path={}", "tracking=none"],
        ["score", "-m", "pair=demo", "out={}"],
        ["score", "pair=local", "pair.base={}", "pair.tuned=x"],
        ["score", "pair=local", "pair.base=x", "pair.tuned={}"],
        ["score", "pair=demo", "pair.tuned_model.adapter={}"],
        ["score", "pair=demo", "pair.tuned_model.tokenizer={}"],
        ["score", "pair=demo", "dataset=jsonl", "dataset.path={}"],
        ["score", "pair=demo", "vocabulary=tsv", "vocabulary.path={}"],
        ["score", "pair=demo", "vectors=text", "vectors.path={}"],
        ["score", "pair=demo", "control=continued", "control.path={}"],
        ["score", "pair=demo", "tracking.uri=sqlite:///{}"],
        ["score", "pair=demo", "+finding@findings.f=followed_instructions", "findings.f.ratings.path={}"],
        ["gate", "results={}", "against=x"],
        ["gate", "results=x", "against={}"],
        ["gate", "results=x", "against=x", "summary={}"],
        ["gate", "results=x", "against=x", "junit={}"],
        ["chain", "chain=[{},x]"],
        ["chain", "chain=[x,y]", "prompts=[{}]"],
        ["mixture", "base={}", "tuned=[x,y]"],
        ["published", "path={}"],
        ["store", "list", "store.path={}"],
        ["sync", "root={}"],
        ["sweep", "status", "out={}"],
        ["leaderboard", "out={}"],
        ["leaderboard", "publish={}"],
        ["perf", "check", "baseline={}"],
    ],
)
def test_an_impossible_path_is_refused_in_every_option_that_takes_a_path(shiftbench, words):
    assert_refused_in_a_line(shiftbench, words, "~nosuch/x")


@pytest.mark.parametrize("bad", ["a\0b", "a\udcff", "x" * 300])
@pytest.mark.parametrize(
    "words", [["score", "pair=demo", "out={}"], ["gate", "results={}", "against=x"], ["sync", "root={}"]]
)
def test_an_impossible_file_name_is_refused(shiftbench, words, bad):
    assert_refused_in_a_line(shiftbench, words, bad)


def assert_refused_in_a_line(shiftbench, words, bad):
    ran = shiftbench(*(word.format(bad) for word in words))
    assert ran.code == 2 and "Traceback" not in ran.err, ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("shiftbench:")]
    assert len(lines) == 1 and lines[0].isprintable()


def test_a_name_of_invalid_utf8_is_refused_before_anything_is_computed(shiftbench, job_options, monkeypatch):
    refused(shiftbench(*arguments(job_options, pair__name="x\udcff")), "pair.name=x\\udcff", "UTF-8")
    assert not Path(job_options["store.path"]).exists()
    monkeypatch.setenv("NAMED", "x\udcff")
    refused(shiftbench(*arguments(job_options, pair__name="${oc.env:NAMED}")), "pair.name", "UTF-8")
    assert not Path(job_options["store.path"]).exists()


def test_the_digest_of_a_ratings_file_never_raises(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("~nosuch/x", "a\0b", str(tmp_path), str(tmp_path / "pipe"), "/no/such"):
        assert settings.decisive({"f": {"ratings": {"path": path}}}) == {"f": {"ratings": {"path": path}}}
