"""`shiftbench published`: it computes tables and a report from a folder; bad input is one line and exit code 2."""

import json

import pytest

from shiftbench.config import composition
from tests.command.test_bad_input import refused
from tests.published.synthetic import BASE, write_folder

pytestmark = pytest.mark.whole


def test_a_folder_becomes_tables_and_a_report(shiftbench, tmp_path):
    ran = shiftbench("published", f"path={write_folder(tmp_path / 'in')}", f"out={tmp_path / 'out'}")
    assert ran.code == 0, ran.err
    assert set(json.loads((tmp_path / "out" / "tables.json").read_text())) >= {
        "table1", "table2", "first50", "min_len", "scores",
    }  # fmt: skip
    assert (tmp_path / "out" / "report.html").exists() and str(tmp_path / "out" / "report.html") in ran.out
    assert "The paper says" in ran.out and "note: " in ran.out


def test_its_configuration_composes_and_its_help_names_every_option(shiftbench):
    config = composition.compose("published", ["path=/somewhere"])
    ran = shiftbench("published", "--help")
    assert ran.code == 0 and all(f"{key}: " in ran.out for key in config)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["path has no value"]),
        (["path=/no/such/folder"], ["/no/such/folder", "no such folder"]),
        (["pth=x"], ["pth", "'path'"]),
    ],
)
def test_bad_arguments_are_refused(shiftbench, words, parts):
    refused(shiftbench("published", *words), *parts)


def test_a_bad_folder_is_refused_before_anything_is_written(shiftbench, tmp_path):
    folder, out = tmp_path / "empty", tmp_path / "out"
    folder.mkdir()
    refused(shiftbench("published", f"path={folder}", f"out={out}"), str(folder), "attribution_NAME.npz")
    (write_folder(folder) / f"attribution_{BASE}.npz").write_bytes(b"not an archive")
    refused(shiftbench("published", f"path={folder}", f"out={out}"), f"attribution_{BASE}.npz")
    assert not out.exists()


def test_an_output_folder_that_cannot_be_written(shiftbench, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(
        shiftbench("published", f"path={write_folder(tmp_path / 'in')}", f"out={tmp_path / 'file' / 'out'}"),
        "output folder",
    )
