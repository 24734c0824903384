"""A tiny random pair in folders, and a command line that runs in this process with its own store and cwd."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from shiftbench import commands
from tests.command.spawned import NO_PICTURE
from tests.tiny import tiny_module, tiny_tokenizer

WORDS = (
    "the of and to write make explain story letter code number book poem list question answer name day people".split()
)


def save(module, folder):
    module.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """base, tuned (base with every matrix nudged) and prompts.jsonl, vocabulary.tsv."""
    return tiny_pair(tmp_path_factory.mktemp("pair"))


def tiny_pair(root):
    """The same in a folder, for scripts."""
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
    code: int
    out: str
    err: str


@pytest.fixture
def shiftbench(tmp_path, monkeypatch, capfd):
    """Runs the command line in an empty folder with a store of its own."""
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
    monkeypatch.setattr("shiftbench.report.figures._svg", lambda canvas: NO_PICTURE)


@pytest.fixture
def asked(folders, tmp_path):
    """Arguments of a small job on the tiny pair."""
    return small_job(folders, tmp_path)


def small_job(folders, place):
    """The same, with store and results below a folder."""
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


def arguments(asked, **changes):
    """The command's words, with some values changed; None takes one out."""
    merged = {**asked, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["score", *(f"{key}={value}" for key, value in merged.items() if value is not None)]


def scores(folder):
    return json.loads((Path(folder) / "scores.json").read_text())
