"""What a folder of published explanations must hold, and the one-line messages where something is wrong."""

import pickle

import numpy as np
import pytest

from shiftbench.errors import InputError
from shiftbench.published.folder import read, short_name
from shiftbench.published.reproduction import reproduce
from tests.published.synthetic import (
    BASE,
    TUNED,
    maps,
    model_rows,
    pieces_of,
    prompt_rows,
    write_folder,
    write_lines,
)


def change(folder, model=TUNED, **arrays):
    """Rewrite a model's file. arrays: functions that change an array; None leaves the array out."""
    path = folder / f"attribution_{model}.npz"
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files}
    for name, make in arrays.items():
        if make is None:
            del kept[name]
        else:
            kept[name] = make(kept[name])
    np.savez(path, **kept)


def test_a_folder_is_read_back_as_it_was_written(tmp_path):
    prompts = prompt_rows(3)
    tuned = model_rows(prompts, 0.5, 7, 1)
    found = read(write_folder(tmp_path, prompts, tuned=tuned))
    assert (found.base, found.tuned) == (BASE, TUNED)
    for name, prompt_pieces, response_pieces, level_PR in tuned:
        read_map = found.maps[TUNED][name]
        assert (list(read_map.prompt_pieces), list(read_map.response_pieces)) == (prompt_pieces, response_pieces)
        assert (read_map.level_PR.numpy() == level_PR).all()
    assert found.rating == {"made_0": 1, "made_1": 3, "made_2": 4}


def test_a_response_without_pieces_and_an_odd_number_of_cells_are_read(tmp_path):
    prompts = prompt_rows(2)
    pieces = pieces_of(prompts[0]["prompt"])
    rows = [(prompts[0]["id"], pieces, [], np.zeros((len(pieces), 0))), ("made_1", ["▁x"], ["▁y"], np.array([[9]]))]
    found = read(write_folder(tmp_path, prompts, tuned=rows)).maps[TUNED]
    assert found["made_0"].level_PR.shape == (len(pieces), 0) and found["made_1"].level_PR.tolist() == [[9]]


def test_models_are_named_without_their_size():
    assert [short_name(name) for name in ("vicuna_7b", "a-1.5B", "b_135M", "gpt2", "c_7b_v2")] == [
        "vicuna", "a", "b", "gpt2", "c_7b_v2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["prompts.jsonl", "ratings.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    (write_folder(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: cannot read the file: No such file"):
        read(tmp_path)


def test_missing_maps_an_empty_folder_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"wanted two files attribution_NAME\.npz.*holds nothing at all"):
        read(tmp_path)
    (write_folder(tmp_path / "one") / f"attribution_{BASE}.npz").unlink()
    with pytest.raises(InputError, match="holds 1 of them"):
        read(tmp_path / "one")
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "nowhere")


class Trap:
    """An object that writes the file 'unpickled' when it is unpickled."""

    def __reduce__(self):
        return (open, ("unpickled", "w"))


def test_nothing_pickled_is_ever_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    change(write_folder(folder), ids=lambda _: np.array([Trap()], dtype=object))
    with pytest.raises(InputError, match="nothing pickled in it"):
        read(folder)
    (folder / f"attribution_{TUNED}.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="nothing pickled in it"):
        read(folder)
    (folder / f"attribution_{TUNED}.npz").rename(folder / "attribution.pkl")
    with pytest.raises(InputError, match=r"attribution\.pkl is a pickle, which is never loaded"):
        read(folder)
    assert not (tmp_path / "unpickled").exists()


def renamed(old, new):
    return lambda ids: np.frombuffer(ids.tobytes().replace(old, new), np.uint8)


@pytest.mark.parametrize(
    ("array", "make", "message"),
    [
        ("explain_nibbles", None, "array 'explain_nibbles' is missing"),
        ("explain_nibbles", lambda x: x.astype(np.float32), "must be one row of uint8 numbers, got float32"),
        ("explain_nibbles", lambda x: np.array(["a"] * len(x)), "must be one row of uint8 numbers, got <U1"),
        ("explain_nibbles", lambda x: x[:-1], r"explain_nibbles has \d+ bytes, wanted \d+"),
        ("explain_nibbles", lambda x: x | 15, r"explain_nibbles has level 15 at index 0; levels are 0 to 10"),
        ("input_ids", lambda x: x.astype(float), "input_ids must be one row of integer numbers, got float64"),
        ("input_ids", lambda x: x + 60000, r"input_ids has \d+, but vocab holds \d+ pieces"),
        ("input_ids", lambda x: x[:-1], r"input_offsets ends at \d+, but input_ids has \d+ entries"),
        ("output_offsets", lambda x: x[:-1], r"output_offsets has 24 entries, wanted 25"),
        ("output_offsets", lambda x: x[::-1], "output_offsets must begin at 0 and never fall"),
        (
            "explain_offsets",
            lambda x: np.array([0, *(x[1:-1] + 1), x[-1]]),
            r"'made_0' has \d+ levels, wanted \d+ x 30",
        ),
        (
            "output_offsets",
            lambda x: np.array([0, 2**62 + 5, *[-(2**62) - 10] * (len(x) - 3), x[-1]]),
            "output_offsets must begin at 0 and never fall",
        ),
        ("output_offsets", lambda x: x[:0], "output_offsets must begin at 0"),
        ("input_ids", lambda x: x.astype(np.uint64) - 2, r"input_ids has -2, but vocab holds"),
        ("input_ids", lambda x: x.astype("m8[s]"), "input_ids must be one row of integer numbers"),
        ("vocab", lambda x: np.full(2**20, 10, np.uint8), "vocab holds 1,048,577 lines; at most 1,048,576 are allowed"),
        ("ids", lambda x: np.full(2**24, 10, np.uint8), "ids holds 16,777,217 lines; at most 25 are allowed"),
        ("vocab", lambda x: np.full_like(x, 255), "vocab is not UTF-8 text"),
        ("ids", renamed(b"made_1\n", b"made_0\n"), "ids holds 'made_0' more than once"),
        ("ids", renamed(b"made_23", b"other_3"), "map 'other_3' has no prompt"),
    ],
)
def test_bad_arrays_are_named(tmp_path, array, make, message):
    change(write_folder(tmp_path), **{array: make})
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert f"attribution_{TUNED}.npz" in str(caught.value)


PROMPT = {"id": "a", "prompt": "b", "instruction": [[0, 1]], "dataset": "c"}
GOOD = {"id": "made_0", "model": TUNED, "rating": 1}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("ratings", "{", "line 1: not JSON"),
        ("ratings", [], "line 1: wanted"),
        ("ratings", {**GOOD, "rating": "high"}, "line 1: rating must be one of -1, 1, 2, 3, 4, got 'high'"),
        ("ratings", {**GOOD, "rating": True}, "got True"),
        ("ratings", {**GOOD, "id": "unknown"}, "line 1: no prompt has the id 'unknown'"),
        (
            "ratings",
            {**GOOD, "model": "third"},
            f"must rate the responses of one model, the tuned one, of {TUNED}, {BASE}.*got third",
        ),
        ("prompts", {"id": "a"}, "line 1: field 'prompt' is missing"),
        ("prompts", {**PROMPT, "instruction": [[0, 9]]}, r"line 1: .*\[0, 9\) ends beyond"),
        ("prompts", {**PROMPT, "dataset": 3}, "line 1: field 'dataset' must name"),
        ("prompts", {**PROMPT, "dataset": "\ud800"}, "line 1: field 'dataset' holds half of a surrogate pair"),
        ("prompts", '{"id": "a", "prompt": "b", "instruction": [], "dataset": "c", "dataset": "d"}', "line 1: .*twice"),
        ("prompts", '{"id": "a", "prompt": "b", "instruction": [[0, ' + "1" * 4301 + "]]}", "line 1: not JSON"),
        ("ratings", '{"id": "made_0", "model": "m", "rating": ' + "1" * 4301 + "}", "line 1: not JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path, file, line, message):
    write_folder(tmp_path)
    write_lines(tmp_path / f"{file}.jsonl", [line])
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_an_id_stands_once_and_a_file_holds_something(tmp_path):
    write_folder(tmp_path)
    write_lines(tmp_path / "ratings.jsonl", [GOOD, GOOD])
    with pytest.raises(InputError, match="line 2: id 'made_0' is already that of line 1"):
        read(tmp_path)
    write_lines(tmp_path / "ratings.jsonl", [])
    with pytest.raises(InputError, match=r"ratings\.jsonl: the file holds no line"):
        read(tmp_path)


def test_maps_of_no_prompt_at_all_are_an_empty_file(tmp_path):
    assert maps([])["explain_offsets"].tolist() == [0]
    np.savez(write_folder(tmp_path) / f"attribution_{TUNED}.npz", **maps([]))
    assert read(tmp_path).maps[TUNED] == {}


def test_a_damaged_file_of_maps_is_named(tmp_path):
    path = write_folder(tmp_path) / f"attribution_{TUNED}.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(InputError, match=rf"{path.name}: cannot be read as arrays of numbers: .*CRC"):
        read(tmp_path)


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / f"attribution_{TUNED}.npz").rename(tmp_path / "attribution_\udcff.npz")
    with pytest.raises(InputError, match=r"the file name 'attribution_\\udcff\.npz' is not UTF-8"):
        read(tmp_path)


def test_spans_in_bytes_are_noted(tmp_path):
    rows = prompt_rows()
    for row in rows:
        row["instruction"] = [[0, len("Write about topic")], [6, 9]]
    found = reproduce(write_folder(tmp_path / "data", rows), tmp_path / "out")
    assert any(note.startswith("24 prompts have a span") for note in found.summary.notes)
