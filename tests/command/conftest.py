"""A tiny random pair in folders, and the command line run in this process, with its own store and current folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from shiftbench import commands
from shiftbench.results.document import without_circumstances
from tests.command.spawned import NO_PICTURE
from tests.tiny import tiny_module, tiny_tokenizer

WORDS = (
    "the of and to write make explain story letter code number book poem list question answer name day people".split()
)


def save(module, folder):
    """Write a model and the tiny tokenizer. Returns the folder as text."""
    module.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder with base, tuned (base plus noise in every matrix), prompts.jsonl and vocabulary.tsv."""
    return tiny_pair(tmp_path_factory.mktemp("pair"))


def tiny_pair(root):
    """As the fixture `folders`, in the folder root, for scripts. Returns root."""
    torch.manual_seed(0)
    base = tiny_module("llama")
    save(base, root / "base")
    with torch.no_grad():
        for parameter in base.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.2 * parameter.std() * torch.randn_like(parameter))
    save(base, root / "tuned")
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"Write {word} now.\n\nInput: {word} and {word}",
            "instruction": [[0, 10 + len(word)]],
        }
        for i, word in enumerate(WORDS[:6])
    ]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "vocabulary.tsv").write_text("".join(f"{word}\t{1 / (i + 1)}\n" for i, word in enumerate(WORDS)))
    return root


@dataclass
class Ran:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def shiftbench(tmp_path, monkeypatch, capfd):
    """A function that runs `shiftbench ARGUMENTS` in an empty folder and returns a Ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["shiftbench"])

    def run(*arguments):
        capfd.readouterr()
        code = commands.main(list(arguments))
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def no_pictures(monkeypatch):
    """Reports without drawn figures, which take half the time of a small job. Those of test_score.py have them."""
    monkeypatch.setattr("shiftbench.report.svg._svg", lambda canvas: NO_PICTURE)


@pytest.fixture
def job_options(folders, tmp_path):
    """The options of a small job on the tiny pair."""
    return small_job(folders, tmp_path)


def small_job(folders, place):
    """The options of a small job on the tiny pair, with store and results below the folder `place`."""
    return {
        "pair": "local",
        "pair.base": str(folders / "base"),
        "pair.tuned": str(folders / "tuned"),
        "dataset": "jsonl",
        "dataset.path": str(folders / "prompts.jsonl"),
        "vocabulary": "tsv",
        "vocabulary.path": str(folders / "vocabulary.tsv"),
        "vectors": "model",
        "findings.instruction_verbs.explain.k": "10",
        "findings.concept_rotation.explain.top": "5",
        "response.max_new_tokens": "6",
        "bootstrap.resamples": "200",
        "store.path": str(place / "store"),
        "out": str(place / "out"),
        "tracking": "none",
    }


def arguments(job_options, **changes):
    """The arguments of `shiftbench score` for these options, with changes.

    changes: new values by option, with __ for a dot; None removes the option.
    """
    merged = {**job_options, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["score", *(f"{key}={value}" for key, value in merged.items() if value is not None)]


def scores(folder):
    """The parsed scores.json of a results folder."""
    return json.loads((Path(folder) / "scores.json").read_text())


def same_results(*folders):
    """Whether the folders' scores.json are equal, but for date, commands and MLflow run."""
    contents = [without_circumstances((Path(folder) / "scores.json").read_bytes()) for folder in folders]
    return len(set(contents)) == 1
