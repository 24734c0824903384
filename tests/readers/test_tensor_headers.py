"""Headers of safetensors and GGUF files: sound ones are read, and no length in a bad one is trusted."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save, save_file

from shiftbench.errors import InputError
from shiftbench.readers.tensor_headers import gguf_header, safetensors_header
from tests.models.gguf_file import write_gguf

SOUND = {"b": torch.ones(2, 3), "a": torch.zeros(5, dtype=torch.bfloat16), "none": torch.zeros(0, 4)}


def packed(header, rest=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def test_a_sound_file_gives_its_tensors(tmp_path):
    save_file(SOUND, tmp_path / "w.safetensors", metadata={"format": "pt"})
    found = {t.name: (t.dtype, t.shape, t.values) for t in safetensors_header(tmp_path / "w.safetensors", "x")}
    assert found == {"b": ("F32", (2, 3), 6), "a": ("BF16", (5,), 5), "none": ("F32", (0, 4), 0)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no whole safetensors file: it has 0 bytes"),
        (b"\x80\x02}q\x00.", "no whole|is pickled"),
        (b"PK\x03\x04" + bytes(100), "is pickled, and unpickling runs code"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git-lfs pointer .*`git lfs pull` in"),
        (struct.pack("<Q", 2**63) + bytes(50), "its first 8 say that the header has 9,223,372,036,854,775,808"),
        (save(SOUND)[:-1], "describes 34 bytes of weights, and 33 follow it"),
        (save(SOUND) + b"x", "describes 34 bytes of weights, and 35 follow it"),
        (packed(b"[1]"), "no JSON object"),
        (packed(b"{" * 5000), "not JSON"),
        (packed(b'{"w": 1, "w": 2}'), "the key 'w' twice"),
        (packed({"w": 5}), "dtype None"),
        (packed(entry("F99"), bytes(4)), "dtype 'F99', not known"),
        (packed(entry(dtype=[]), bytes(4)), "dtype"),
        (packed(entry(shape=[-1]), bytes(4)), "no shape and offsets"),
        (packed(entry(shape=[2**62, 4]), bytes(4)), r"shape \(4611686018427387904, 4\) is given 4 bytes"),
        (packed(entry(offsets=[0, 4, 8]), bytes(4)), "no shape and offsets"),
        (packed(entry(offsets=[4, 8]), bytes(8)), "does not begin where the one before it ends"),
        (packed(entry(offsets=[4, 0]), bytes(4)), "is given -4 bytes"),
    ],
    ids=str,
)
def test_a_bad_safetensors_file_is_one_line(tmp_path, content, said):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=f"model m: w.safetensors.*({said})") as refused:
        safetensors_header(tmp_path / "w.safetensors", "model m: w.safetensors")
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "missing"):
        for read in (safetensors_header, gguf_header):
            with pytest.raises(InputError, match="x: "):
                read(tmp_path / name, "x")


def test_a_sound_gguf_file_gives_its_metadata_and_tensors(tmp_path):
    header = gguf_header(write_gguf(tmp_path / "m.gguf"), "x")
    assert header.metadata["llama.block_count"] == 2 and header.metadata["tokenizer.ggml.tokens"] == 400
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    assert shapes["token_embd.weight"] == (400, 32) and shapes["blk.1.attn_k.weight"] == (16, 32)


def test_every_cut_of_a_gguf_file_is_refused(tmp_path):
    whole = write_gguf(tmp_path / "m.gguf").read_bytes()
    for length in (0, 3, 4, 23, 24, 30, 200, 5000, len(whole) // 2, len(whole) - 64):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"^x"):
            gguf_header(tmp_path / "cut.gguf", "x")


@pytest.mark.parametrize(
    ("place", "letter", "number"), [(4, "I", 99), (8, "Q", 2**62), (16, "Q", 2**62), (24, "Q", 2**60)]
)
def test_no_count_in_a_gguf_file_is_trusted(tmp_path, place, letter, number):
    content = bytearray(write_gguf(tmp_path / "m.gguf").read_bytes())
    struct.pack_into(f"<{letter}", content, place, number)
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(InputError, match=r"announces more than it holds|version 99 is not known"):
        gguf_header(tmp_path / "m.gguf", "x")
