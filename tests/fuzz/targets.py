"""The fuzz targets: for every reader of outside input, well-formed inputs, how to change them, and the reader."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch

from shiftbench import commands, models
from shiftbench.config.composition import compose
from shiftbench.leaderboard.sources import entry
from shiftbench.models import ModelSource
from shiftbench.prompts import Prompt, encode
from shiftbench.prompts.datasets.jsonl import Jsonl
from shiftbench.published.folder import read as read_published
from shiftbench.ratings.file import FileRatings
from shiftbench.results.document import SCHEMA
from shiftbench.store.explanation import Unit
from shiftbench.store.store import Store
from shiftbench.tracking import FoundRun, Tracking, pending_folders, send_run
from shiftbench.words.vectors import text_file
from shiftbench.words.vocabulary import tsv
from tests.fuzz import mutate
from tests.fuzz.mutate import Mutation
from tests.fuzz.replies import readers
from tests.models.gguf_file import write_gguf
from tests.published.synthetic import prompt_rows, write_folder
from tests.tiny import tiny_module, tiny_tokenizer

SEEDS = Path(__file__).parent / "seeds"
KEY = "ab" * 32
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class Target:
    """One reader to fuzz.

    name: as in only=NAME on the command line. seeds: well-formed inputs. mutation: changes one of them. read: takes the
    bytes of an input, and may return, or raise InputError or one of `refusals`, which the reader's docstring promises;
    every other exception is a defect. weight: the target's share of all inputs. refuses_seeds: whether `read` may
    refuse the seeds as well.
    """

    name: str
    seeds: Sequence[bytes]
    mutation: Mutation
    read: Callable[[bytes], Any]
    weight: int = 10
    refusals: tuple[type[Exception], ...] = ()
    refuses_seeds: bool = False

    def stored(self) -> list[tuple[str, bytes]]:
        """(file name, content) of the inputs that once had a defect; read before new ones and by `make test`."""
        folder = SEEDS / self.name
        return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def targets(root: Path) -> list[Target]:
    """All targets. root: the folder that their files are written to."""
    all_targets = [
        *_model_targets(root / "model"), *_adapter_targets(root / "adapter"), _gguf(root / "gguf"), _template(),
        *_text_targets(root / "text"), *_published_targets(root / "published"), _scores(), _store(root / "store"),
        _tracked(root / "tracked"), _override(), _argument(),
        *(Target(name, seeds, mutate.json_text, read, 8) for name, seeds, read in readers()),
    ]  # fmt: skip
    mutate.bomb()  # computed here once, so that every child process inherits it
    names = [target.name for target in all_targets]
    assert len(set(names)) == len(names)
    return all_targets


def source(path: Path, **change: Any) -> ModelSource:
    """The model at a path, with the options of conf/model/default.yaml, except those in `change`."""
    plain = ModelSource(
        path=str(path), revision=None, adapter=None, merge_adapter=True, gguf_file=None, tokenizer=None,
        dtype="float32", device="cpu", device_map=None, trust_remote_code=False,
    )  # fmt: skip
    return replace(plain, **change)


def use_model(where: ModelSource) -> None:
    """Load a model, encode a prompt, read the model's digests and run it, as every job does."""
    model = models.load(where)
    encoded = encode(Prompt("a", "Write a poem.", ((0, 13),)), model.tokenizer)
    assert model.tokenizer_digest and model.weights_digest and model.context_length
    with torch.no_grad():
        model.module(input_ids=torch.tensor([[*encoded.prefix_ids, *encoded.prompt_ids]]))


def _file(folder: Path, name: str, read: Callable[[], Any]) -> Callable[[bytes], None]:
    """A reader that writes its input to one file of a folder, calls `read`, and restores the file."""
    path = folder / name
    before = path.read_bytes() if path.exists() else None

    def read_changed(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read()
        finally:
            path.unlink()
            if before is not None:
                path.write_bytes(before)

    return read_changed


def _model_targets(folder: Path) -> Iterator[Target]:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tiny_module("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sharded = folder.with_name("sharded")
    tiny_module("llama").save_pretrained(sharded, max_shard_size="60KB")
    tokenizer.save_pretrained(sharded)
    (folder / "special_tokens_map.json").write_text(json.dumps(tokenizer.special_tokens_map))
    names = (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
    )
    for name in names:
        yield Target(
            f"model.{name.removesuffix('.json')}", [(folder / name).read_bytes()], mutate.json_text,
            _file(folder, name, lambda: use_model(source(folder))), 20,
        )  # fmt: skip
    for kind in ("gpt2", "gemma2", "qwen3"):
        other = folder.with_name(kind)
        tiny_module(kind).save_pretrained(other)
        tokenizer.save_pretrained(other)
        yield Target(
            f"model.config.{kind}", [(other / "config.json").read_bytes()], mutate.json_text,
            _file(other, "config.json", lambda other=other: use_model(source(other))), 10,
        )  # fmt: skip
    index = "model.safetensors.index.json"
    yield Target(
        "model.index", [(sharded / index).read_bytes()], mutate.json_text,
        _file(sharded, index, lambda: use_model(source(sharded))),
    )  # fmt: skip
    weights = "model.safetensors"
    yield Target(
        "model.safetensors", [(folder / weights).read_bytes()], mutate.safetensors,
        _file(folder, weights, lambda: use_model(source(folder))), 20,
    )  # fmt: skip


def _adapter_targets(folder: Path) -> Iterator[Target]:
    base = folder / "base"
    tiny_module("llama").save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(tiny_module("llama"), lora).save_pretrained(folder / "lora")
    for name, mutation in (("config.json", mutate.json_text), ("model.safetensors", mutate.safetensors)):
        yield Target(
            f"adapter.{name.split('.')[0]}", [(folder / "lora" / f"adapter_{name}").read_bytes()], mutation,
            _file(folder / "lora", f"adapter_{name}", lambda: use_model(source(base, adapter=str(folder / "lora")))),
        )  # fmt: skip


def _gguf(folder: Path) -> Target:
    folder.mkdir(parents=True)
    write_gguf(folder / "model.gguf")
    read = _file(folder, "model.gguf", lambda: use_model(source(folder, gguf_file="model.gguf")))
    return Target("model.gguf", [(folder / "model.gguf").read_bytes()], mutate.gguf, read)


def _template() -> Target:
    tokenizer = tiny_tokenizer()
    prompt = Prompt("a", "Write a poem.", ((0, 13),))

    def read(content: bytes) -> None:
        encode(prompt, tokenizer, content.decode("utf-8", "replace"))

    return Target("template", [TEMPLATE.encode()], mutate.template, read, 15)


def _text_targets(folder: Path) -> Iterator[Target]:
    folder.mkdir(parents=True)
    rows = [
        {"id": "a", "prompt": "Write a poem.\n\nInput: sea", "instruction": [[0, 13]], "context": [[22, 25]],
         "key": [[8, 12]], "response": " Blue.", "skill": "writing"},
        {"id": "b", "prompt": "Éte\u0301 👩\u200d💻 now", "instruction": [[0, 3]]},
    ]  # fmt: skip
    prompts = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    rated = "".join(json.dumps({"id": i, "model": "m", "rating": r}) + "\n" for i, r in (("a", 1), ("b", 3))).encode()
    vectors = b"\n".join(
        b"%s %s" % (w, b" ".join(b"%.2f" % x for x in (0.1, -2.5, 3.25))) for w in (b"the", b"of", b"to")
    )
    words = b"the\t0.1\nof\t0.05\nto\t0.01\n"
    readers: tuple[tuple[str, bytes, Mutation, str, Callable[[str], Any]], ...] = (
        ("prompts", prompts, mutate.json_lines, "p.jsonl", lambda path: Jsonl(path, None)()),
        ("ratings", rated, mutate.json_lines, "r.jsonl", FileRatings),
        ("vectors", b"3 3\n" + vectors + b"\n", mutate.text_lines, "v.txt", text_file),
        ("vocabulary", words, mutate.text_lines, "w.tsv", tsv),
        ("vectors.gz", gzip.compress(vectors), mutate.gzipped(mutate.text_lines), "v.txt.gz", text_file),
        (
            "prompts.gz",
            gzip.compress(prompts),
            mutate.gzipped(mutate.json_lines),
            "p.jsonl.gz",
            lambda p: Jsonl(p, None)(),
        ),
    )
    for name, content, mutation, file, read in readers:
        path = folder / file
        yield Target(name, [content], mutation, _file(folder, file, lambda path=path, read=read: read(str(path))))


def _published_targets(folder: Path) -> Iterator[Target]:
    place = write_folder(folder, prompt_rows(3))
    archive = next(place.glob("*.npz"))
    np.load(archive).close()
    yield Target(
        "published.npz", [archive.read_bytes()], mutate.npz, _file(place, archive.name, lambda: read_published(place))
    )
    for name in ("prompts", "ratings"):
        yield Target(
            f"published.{name}", [(place / f"{name}.jsonl").read_bytes()], mutate.json_lines,
            _file(place, f"{name}.jsonl", lambda: read_published(place)), 5,
        )  # fmt: skip


def _scores() -> Target:
    run = FoundRun("0" * 32, "pair", 0, "FINISHED", {"pair": "pair", "flags": "unfaithful:base"})
    pair = {name: "x" for name in ("name", "base", "tuned", "base_weights", "tuned_weights", "prompt_set", "settings")}
    score = {"finding": "f", "name": "s", "value": 0.5, "low": 0.25, "high": 1, "p": 0.01, "n": 60}
    whole = {"schema": SCHEMA, "versions": {"finding.f": 1}, "pair": pair, "scores": [score, {**score, "p": None}],
             "levels": ["f"], "notes": ["a"]}  # fmt: skip
    return Target("scores", [json.dumps(whole).encode()], mutate.json_text, lambda c: entry(run, c), 10, (ValueError,))


def _store(folder: Path) -> Target:
    store = Store(folder)
    store.put(KEY, Unit({"level_PR": torch.zeros(2, 3)}, {"tokens": ["a", "b"]}), {"method": "m", "weights": "w" * 64})
    place = folder / KEY[:2] / KEY
    whole = {name: (place / name).read_bytes() for name in os.listdir(place)}

    def read(content: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, before in {**whole, "record.json": content}.items():
            (place / name).write_bytes(before)
        list(store.entries())
        store.verify()
        store.get(KEY)

    return Target("store.record", [whole["record.json"]], mutate.sealed(mutate.json_text), read)


def _tracked(folder: Path) -> Target:
    from shiftbench.tracking import TrackedRun, spool_run

    folder.mkdir(parents=True)
    (folder / "scores.json").write_text("{}")
    spool_run(folder, TrackedRun("run", {"p": "1"}, {"pair": "a"}, {"m.value": 1.0}, folder, None, ("scores.json",)))
    absent_server = Tracking("http://127.0.0.1:9", "shiftbench")  # port 9 (discard), where no server answers

    before = (folder / ".tracked.json").read_bytes()

    files = json.loads(before)["files"].encode()

    def read(content: bytes) -> None:
        (folder / ".tracked.json").write_bytes(content)
        pending_folders(folder, absent_server)
        if files not in content:  # the right digest would be sent, which takes seconds
            send_run(absent_server, folder, None)

    return Target("tracked", [before], mutate.json_text, read)


def _override() -> Target:
    """The target for a Hydra override on the command line; the input is the bytes of one argument."""
    seeds = [b"pair.base=/no/such/model", b"dataset.path=~/prompts.jsonl", b"response.max_new_tokens=4", b"suite=smoke",
             b"findings.instruction_recognition.cutoff=5", b"out='a (b)'", b"pair.tuned=x=y,z"]  # fmt: skip

    def read(content: bytes) -> None:
        compose("config", ["pair=local", "pair.base=a", "pair.tuned=b", os.fsdecode(content).replace("\0", "?")])

    return Target("override", seeds, mutate.raw, read, 10, refuses_seeds=True)


def _argument() -> Target:
    """The target for a command and its first arguments; every input must end in an exit code."""
    seeds = [
        b"store list",
        b"socre pair=demo",
        b"gate pair=nope against=x",
        b"--pair demo",
        b"sweep status",
        b"chain chain=[a]",
    ]

    def read(content: bytes) -> None:
        with _quiet():
            commands.main([os.fsdecode(word) for word in content.replace(b"\0", b"?").split()[:3]])

    return Target("argument", seeds, mutate.raw, read, 2)


@contextmanager
def _quiet() -> Iterator[None]:
    with open(os.devnull, "w", errors="backslashreplace") as sink:  # the error handler of standard error
        from contextlib import redirect_stderr, redirect_stdout

        with redirect_stdout(sink), redirect_stderr(sink):
            yield
