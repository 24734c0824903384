"""Records what users and stores depend on: digests, keys, and names. `python -m tests.frozen.record > recorded.json`.

The same script runs at the commit that is recorded and on today's code, so it reaches the package through the command
line, `shiftbench.score` and the files that they write. What has no such door is in `Package`, the only place to mend
where a module moves. What comes back depends on no machine: it holds digests of texts, options and weights, names, and
response ids of two greedy tokens each, and no other number that is computed from weights. The logit of each of these
tokens is at least 0.002 above the next one, which is some hundred times what float32 rounds.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Package:
    """Every name inside the package that this script uses; `shiftbench.score` and `shiftbench.Prompt` are public."""

    def __init__(self) -> None:
        import shiftbench

        self.models = Path(shiftbench.__file__).parent / "demo" / "models"
        self.score, self.prompt = shiftbench.score, shiftbench.Prompt

    def command(self, *arguments: str) -> None:
        """Run `shiftbench ARGUMENTS` in this process, with its output thrown away. RuntimeError where it fails."""
        from shiftbench import commands

        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = commands.main(list(arguments))
        if code != 0:
            raise RuntimeError(f"shiftbench {' '.join(arguments)} ended with {code}: {said.getvalue()[-2000:]}")

    def compose(self, overrides: list[str]) -> Any:
        """The resolved configuration of `shiftbench score` under overrides."""
        from shiftbench.config.composition import compose

        return compose("config", overrides)

    def settings(self, config: Any) -> tuple[str, dict[str, Any]]:
        """`pair.settings` of scores.json under a configuration, and the options that it is the digest of."""
        from shiftbench.config.settings import decisive
        from shiftbench.pipeline.recording import settings

        return settings(config), decisive(config.findings)

    def before_loading(self, config: Any) -> dict[str, Any]:
        """The fields of `pair` in scores.json that are known before a model is loaded."""
        from shiftbench.pipeline.job import build
        from shiftbench.pipeline.recording import conditions

        return conditions(config, build(config))

    def groups(self) -> dict[str, list[str]]:
        """The config groups and their members."""
        from shiftbench.config.composition import groups

        return groups()


# Two prompts with an instruction, a context and a reference response.
PROMPTS = [
    ("letters", "Instruction: Sort these letters.\nInput: c a b\nOutput:", "Sort these letters.", "c a b", " a b c"),
    ("colour", "Instruction: Name a colour.\nInput: the sky\nOutput:", "Name a colour.", "the sky", " blue"),
]
PAIRS = (
    "demo", "demo_lora", "demo_continued", "gemma2_2b", "llama2_7b", "llama31_8b", "local", "mistral_7b", "olmo2_1b",
    "qwen25_0b5", "qwen25_1b5", "qwen25_7b", "smollm2_135m", "smollm2_1b7", "smollm2_360m", "vicuna_7b",
)  # fmt: skip
SUITES = ("all", "controlled", "core", "demo", "paper", "probes", "smoke")
ATTRIBUTION = "findings.instruction_recognition.explain"
# Each list is composed as a configuration of its own. Most change one option. Some of the options belong to the
# settings of a run, so that the digest changes, and others (memory, device, budget, ...) do not.
CHANGES = (
    [f"{ATTRIBUTION}.method=occlusion"],
    [f"{ATTRIBUTION}.method=occlusion", f"{ATTRIBUTION}.steps=8"],
    [f"{ATTRIBUTION}.method=integrated_gradients"],
    [f"{ATTRIBUTION}.method=integrated_gradients", f"{ATTRIBUTION}.steps=8"],
    [f"{ATTRIBUTION}.memory=64"],
    [f"{ATTRIBUTION}.precision=tf32"],
    ["findings.instruction_recognition.cutoff=5"],
    ["findings.concept_rotation.explain.rank=10"],
    ["bootstrap.resamples=20"],
    ["seed=1", "response.max_new_tokens=8", "device=cpu"],
    ["annotate=openai", "annotate.model=reader"],
    ["annotate=openai", "annotate.model=reader", "annotate.budget=9", "annotate.retries=1", "annotate.seeds=[0,1]"],
    ["+finding@findings.followed_instructions=followed_instructions", "RATINGS"],
    [
        "+finding@findings.followed_instructions=followed_instructions",
        "ratings@findings.followed_instructions.ratings=openai",
        "findings.followed_instructions.ratings.model=reader",
    ],
)  # fmt: skip
PROMPT_SETS = (
    ["dataset=self_instruct"],
    ["dataset=self_instruct", "response.mode=reference"],
    ["dataset=mt_bench", "dataset.limit=16"],
    ["dataset=jsonl", "dataset.path=PROMPTS", "response.beside=reference"],
    ["dataset=mt_bench", "vocabulary.size=4000"],
)
PACKAGED = "vocabulary"  # prompt sets that set this take the packaged words, in seconds; others a small file of words
POSITION = "findings.instruction_position.explain"
SMALL = {  # options with which a job takes seconds; the options of the explainers keep their defaults
    "device": "cpu",
    "response.max_new_tokens": 2,
    "bootstrap.resamples": 20,
    "annotate.draws": 100,
    "vocabulary": "tsv",
    "vocabulary.path": "WORDS",
    "vectors": "model",
    f"{ATTRIBUTION}.method": "grad_x_input",  # the default until issue 20, with which the units were recorded
}
SMALLER = {  # options for jobs with null models, each of which is explained anew
    "findings.instruction_verbs.explain.k": 10,
    "findings.concept_rotation.explain.rank": 12,
    "findings.concept_rotation.explain.top": 10,
    "findings.attribution_faithfulness.explain.prompts": 1,
}
UNSTEADY = ("version.shiftbench", "version.python", "version.torch", "version.transformers")


class Inputs:
    """The files that configurations name: prompts, ratings, words and word vectors, written into `folder`.

    The paths are the attributes prompts, ratings, words and vectors.
    """

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        self._write("PROMPTS", "prompts.jsonl", "".join(json.dumps(row) + "\n" for row in map(_row, PROMPTS)))
        ratings = [
            {"id": name, "model": "demo", "rating": rating} for (name, *_), rating in zip(PROMPTS, (1, 4), strict=True)
        ]
        self._write("RATINGS", "ratings.jsonl", "".join(json.dumps(row) + "\n" for row in ratings))
        words = Path(__file__).with_name("words.tsv").read_text(encoding="utf-8")
        self._write("WORDS", "words.tsv", words)
        rows = (line.split("\t")[0] for line in words.splitlines())
        vectors = (f"{word} {i * 7 % 11 - 5} {i * 5 % 13 - 6} {i * 3 % 7 - 3} 1\n" for i, word in enumerate(rows))
        self._write("VECTORS", "vectors.txt", "".join(vectors))
        self._models = str(models)

    def _write(self, name: str, file: str, text: str) -> None:
        (self.folder / file).write_text(text, encoding="utf-8")
        setattr(self, name.lower(), str(self.folder / file))

    def filled(self, override: str) -> str:
        """An override in which PROMPTS, WORDS or VECTORS is replaced by the path of that file.

        RATINGS alone becomes the override that sets the path of the ratings.
        """
        if override == "RATINGS":
            return f"findings.followed_instructions.ratings.path={self.ratings}"
        for name in ("PROMPTS", "WORDS", "VECTORS"):
            override = override.replace(f"={name}", f"={getattr(self, name.lower())}")
        return override

    def masked(self, value: Any) -> Any:
        """A value in which the path of the folder is replaced by FOLDER, and that of the demo models by MODELS.

        The record therefore does not depend on where they lie. Dicts and lists are searched.
        """
        if isinstance(value, dict):
            return {name: self.masked(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.masked(item) for item in value]
        if isinstance(value, str):
            return value.replace(str(self.folder), "FOLDER").replace(self._models, "MODELS")
        return value


def record() -> dict[str, Any]:
    """Everything that is frozen, by section; about half a minute on one core."""
    package = Package()
    with tempfile.TemporaryDirectory() as folder, _quiet_environment():
        inputs = Inputs(Path(folder), package.models)
        found = {
            **configurations(package, inputs),
            "prompt sets": prompt_sets(package, inputs),
            **jobs(package, inputs),
        }
    return inputs.masked(found)


# Configuration


def configurations(package: Package, inputs: Inputs) -> dict[str, Any]:
    """settings: the digest of each configuration; settings say: what it is the digest of, without `_target_` paths.

    options: every dotted key of a composed configuration with its value. groups: the config groups and their members.
    other commands: the keys at the top of each of their configurations.
    """
    settings, say = {}, {}
    changes = [*([f"suite={suite}"] for suite in SUITES), *CHANGES]
    # A composition takes a third of a second, so not every pair meets every change. With each change the next pair is
    # composed, so each pair is in at least one configuration.
    for i, change in enumerate(changes):
        overrides = [f"pair={PAIRS[i % len(PAIRS)]}", *change]
        local = ["pair.base=MODELS/base", "pair.tuned=MODELS/tuned"] if overrides[0] == "pair=local" else []
        config = package.compose([inputs.filled(override) for override in [*overrides, *local]])
        name = " ".join(overrides)
        settings[name], options = package.settings(config)
        say[name] = without_modules(options)
        if i == 0:  # the demo pair with the suite that is the default
            options_of_all = config
    folder = ROOT / "conf"
    return {
        "settings": settings,
        "settings say": _differences_from_first(say),
        "options": dict(sorted(_dotted(without_modules(_plain(options_of_all))))),
        "groups": {name: members for name, members in package.groups().items()},
        "other commands": {path.stem: _top_keys(path) for path in sorted(folder.glob("*.yaml"))},
    }


def without_modules(options: Any) -> Any:
    """Options in which every `_target_` is the last part of its path: it says what a thing is, not where it lives."""
    if isinstance(options, dict):
        return {k: v.rpartition(".")[2] if k == "_target_" else without_modules(v) for k, v in options.items()}
    return [without_modules(item) for item in options] if isinstance(options, list) else options


def _differences_from_first(by_name: dict[str, Any]) -> dict[str, Any]:
    """The options of the first configuration in full, and of each other configuration those that differ from the first.

    The options are under dotted keys. None stands for an option that the first has and the other has not.
    """
    flat = {name: dict(_dotted(options)) for name, options in by_name.items()}
    first_name, first = next(iter(flat.items()))
    found: dict[str, Any] = {first_name: first}
    for name, options in flat.items():
        keys = sorted({*options, *first})
        if name != first_name:
            found[name] = {
                k: options.get(k) for k in keys if options.get(k) != first.get(k) or (k in first) != (k in options)
            }
    return found


def _plain(config: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


def _dotted(options: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(options, dict) or not options:
        yield prefix.removesuffix("."), options
        return
    for name, value in options.items():
        yield from _dotted(value, f"{prefix}{name}.")


def _top_keys(path: Path) -> list[str]:
    from omegaconf import OmegaConf

    return sorted(str(name) for name in OmegaConf.load(path) if name not in ("defaults", "_target_"))


def prompt_sets(package: Package, inputs: Inputs) -> dict[str, Any]:
    """For each prompt set, the fields of `pair` in scores.json that are known before a model is loaded."""
    found = {}
    for change in PROMPT_SETS:
        small = [] if any(c.startswith(PACKAGED) for c in change) else ["vocabulary=tsv", "vocabulary.path=WORDS"]
        overrides = ["pair=demo", "vectors=model", f"store.path={inputs.folder / 'store'}", *change, *small]
        found[" ".join(change)] = package.before_loading(package.compose([inputs.filled(o) for o in overrides]))
    return found


# Jobs


def jobs(package: Package, inputs: Inputs) -> dict[str, Any]:
    """What small jobs leave behind: store keys and names.

    units: for each job, what its units in the store were made from, with their keys. scores in Python: the names of the
    scores that `shiftbench.score` returns for each job. The other sections are those of `whole_job`.
    """
    store = StoreLooker(inputs.folder / "store")
    units: dict[str, Any] = {}
    base, tuned, lora, continued = (str(package.models / n) for n in ("base", "tuned", "tuned_lora", "continued"))
    names = whole_job(package, inputs, store, units)
    alone = {"response.beside": None}
    runs: dict[str, tuple[str, dict[str, Any]]] = {
        "demo, on references": (
            tuned, {**alone, "suite": "all", "response.mode": "reference", "annotate.draws": 10000},
        ),
        "demo_lora, own responses, attribution by occlusion, vectors=text": (
            lora, {
                **SMALLER, **alone, "suite": "controlled", "response.mode": "own",
                f"{ATTRIBUTION}.method": "occlusion", "findings.attribution_faithfulness.explain.steps": 2,
                "vectors": "text", "vectors.path": inputs.vectors,
            },
        ),
        "demo_lora, adapter kept, attribution by integrated gradients": (
            lora, {
                **alone, "suite": "probes", f"{POSITION}.method": "grad_x_input",
                "pair.tuned_model.merge_adapter": False,
                f"{ATTRIBUTION}.method": "integrated_gradients", f"{ATTRIBUTION}.steps": 2,
            },
        ),
        "demo_continued, template=tuned": (
            continued, {**alone, "suite": "probes", f"{POSITION}.method": "grad_x_input", "template": "tuned"},
        ),
        "demo, gaussian null": (tuned, {**SMALLER, **alone, "suite": "all", "control": "gaussian", "control.draws": 2}),
        "demo, continued null": (
            tuned, {**SMALLER, **alone, "suite": "all", "control": "continued", "control.path": continued},
        ),
    }  # fmt: skip
    prompts = [package.prompt(*_prompt(row)) for row in PROMPTS[:1]]
    scores = {}
    for name, (path, change) in runs.items():
        # Null models of a job are asked for by name: before issue 19 there were none by default.
        chosen = {"control": "none", "vocabulary.path": inputs.words, "store.path": str(store.folder), **change}
        options = {**SMALL, **chosen}
        given = {option.replace(".", "__"): value for option, value in options.items()}
        with contextlib.redirect_stderr(io.StringIO()):
            made = package.score(base, path, prompts, **given)
        scores[name] = [f"{score.finding}.{score.name}" for score in made]
        units[name] = store.new()
    return {"units": units, **names, "scores in Python": scores}


def whole_job(package: Package, inputs: Inputs, store: StoreLooker, units: dict[str, Any]) -> dict[str, Any]:
    """Names in the results of `shiftbench score` on the bundled pair, with every finding, null models and tracking.

    The names are those on disk, in MLflow and on a leaderboard. The units that the job stores are added to `units`.
    """
    out, database = inputs.folder / "out", f"sqlite:///{inputs.folder / 'runs' / 'mlflow.db'}"
    (inputs.folder / "runs").mkdir()
    options = {**SMALL, **SMALLER, "dataset": "jsonl", "dataset.path": inputs.prompts, "vocabulary.path": inputs.words}
    findings = ("followed_instructions", "instruction_position", "key_part_gain")
    package.command(
        "score", "pair=demo", "suite=all", "control=permuted", "control.draws=2", f"out={out}",
        f"store.path={store.folder}", f"tracking.uri={database}",
        *(f"+finding@findings.{finding}={finding}" for finding in findings), inputs.filled("RATINGS"),
        *(f"{name}={value}" for name, value in options.items()), f"{POSITION}.method=grad_x_input",
        "findings.followed_instructions.explain.method=grad_x_input",
    )  # fmt: skip
    units["demo, shared beside own, permuted null"] = store.new()
    board = inputs.folder / "board"
    package.command("leaderboard", f"out={board}", f"tracking.uri={database}")
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return {
        "scores.json": {
            "keys": sorted(scores),
            "schema": scores["schema"],
            "levels": scores["levels"],
            "keys of a score": sorted({key for row in scores["scores"] for key in row}),
            "versions": {k: v for k, v in scores["versions"].items() if f"version.{k}" not in UNSTEADY},
            "names of versions": sorted(scores["versions"]),
            "pair": scores["pair"],
        },
        "scores": [f"{row['finding']}.{row['name']}" for row in scores["scores"]],
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()),
        "columns of tables": {path.stem: _header(path) for path in sorted((out / "tables").glob("*.csv"))},
        "MLflow": _tracked(database),
        "leaderboard": _leaderboard(board),
        "store": store.layout(),
    }


def _tracked(database: str) -> dict[str, Any]:
    """Names of what MLflow has of the one run, and the values of its tags and params.

    "(any)" replaces the value of a tag that depends on the machine or on the time. Options of the configuration, which
    are parameters by the names that the section "options" has, are left out, and so is the description.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=database)
    (experiment,) = (each for each in client.search_experiments() if each.name == "shiftbench")
    (run,) = client.search_runs([experiment.experiment_id])
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    options = _options_of(client, run.info.run_id)
    found = [""]
    files = []
    while found:
        for item in client.list_artifacts(run.info.run_id, found.pop() or None):
            (found if item.is_dir else files).append(item.path)
    return {
        "run": run.info.run_name,
        "tags": {k: "(any)" if k in (*UNSTEADY, "shiftbench.result") else tags[k] for k in sorted(tags)},
        "params": {name: value for name, value in sorted(run.data.params.items()) if name not in options},
        "metrics": sorted(run.data.metrics),
        "artifacts": sorted(files),
    }


def _options_of(client: Any, run_id: str) -> set[str]:
    """The names of the options in a run's config.yaml, with dots.

    Without dtype and template, which were parameters before all options were.
    """
    import yaml

    def names(found: Any, before: str = "") -> set[str]:
        if not isinstance(found, dict):
            return {before.removesuffix(".")}
        return {name for key, value in found.items() for name in names(value, f"{before}{key}.")}

    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run_id, "config.yaml", folder)
        return names(yaml.safe_load(Path(path).read_text(encoding="utf-8"))) - {"dtype", "template"}


def _leaderboard(folder: Path) -> dict[str, Any]:
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    (row,) = board["rows"]
    return {
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "columns of leaderboard.csv": _header(folder / "leaderboard.csv"),
        "columns of leaderboard.md": (folder / "leaderboard.md")
        .read_text(encoding="utf-8")
        .splitlines()[4]
        .split(" | "),
        "keys of leaderboard.json": sorted(board),
        "schema": board["schema"],
        "keys of a row": sorted(row),
        "columns of leaderboard.json": board["columns"],
        "setting that rows share": sorted(board["setting"]),
    }


class StoreLooker:
    """A store of explanations as it lies on disk: FOLDER/KEY[:2]/KEY/record.json says what a unit was made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: set[str] = set()

    def new(self) -> list[dict[str, Any]]:
        """What the units that came since the last look were made from, each with its key.

        Units that differ in the layer alone are one row, with the keys of all layers in their order. RuntimeError where
        a key is not the digest of what its record says.
        """
        rows: dict[str, tuple[dict[str, Any], list[tuple[int, str]]]] = {}
        for path in sorted(self.folder.glob("??/*/record.json")):
            key = path.parent.name
            if key in self._seen:
                continue
            self._seen.add(key)
            content = json.loads(path.read_text(encoding="utf-8"))["body"]["record"]
            if canonical_digest(content) != key:
                raise RuntimeError(f"store: the key {key} is not the digest of its record {content}")
            layer = int(content.pop("layer", -1))
            rows.setdefault(json.dumps(content, sort_keys=True), (content, []))[1].append((layer, key))
        found = []
        for name in sorted(rows):
            content, keys = rows[name]
            one = keys[0][0] < 0
            found.append(
                {"content": content, **({"key": keys[0][1]} if one else {"layers": [k for _, k in sorted(keys)]})}
            )
        return found

    def layout(self) -> dict[str, Any]:
        """The names of the files and folders of a unit, and the keys in its record.json.

        For each method also the names and dtypes of its arrays, and the names of its lists of words, of one unit.
        """
        bodies = {}
        for path in sorted(self.folder.glob("??/*/record.json")):
            body = json.loads(path.read_text(encoding="utf-8"))["body"]
            bodies[body["record"]["method"]] = (path, body)
        path, body = next(iter(bodies.values()))
        from safetensors import safe_open

        arrays = {}
        for method, (where, one) in sorted(bodies.items()):
            with safe_open(where.with_name("arrays.safetensors"), "pt") as file:
                names = {name: str(file.get_tensor(name).dtype) for name in sorted(file.keys())}
            arrays[method] = {"arrays": names, "words": sorted(one["words"])}
        return {
            "folders": sorted(item.name for item in self.folder.iterdir() if len(item.name) > 2),
            "files of a unit": sorted(item.name for item in path.parent.iterdir()),
            "keys of record.json": sorted(json.loads(path.read_text(encoding="utf-8"))),
            "keys of its body": sorted(body),
            "methods": arrays,
        }


def canonical_digest(content: Any) -> str:
    """The SHA-256 digest, in hexadecimal, of canonical JSON: sorted keys, no spaces.

    It is written here a second time, because a test with the package's own function would follow a change of it.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _header(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def _row(prompt: tuple[str, ...]) -> dict[str, Any]:
    name, text, instruction, context, response = prompt
    spans = [[_span(text, part)] for part in (instruction, context)]
    return {"id": name, "prompt": text, "instruction": spans[0], "context": spans[1], "response": response}


def _prompt(prompt: tuple[str, ...]) -> tuple[Any, ...]:
    row = _row(prompt)
    spans = (tuple(map(tuple, row[part])) for part in ("instruction", "context"))
    return row["id"], row["prompt"], *spans, row["response"]


def _span(text: str, part: str) -> list[int]:
    return [text.index(part), text.index(part) + len(part)]


@contextlib.contextmanager
def _quiet_environment() -> Iterator[None]:
    """While the block runs, the environment has no variables of shiftbench, MLflow, OpenAI and the Hub's token.

    Afterwards the environment is as before.
    """
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("SHIFTBENCH_", "OPENAI_", "MLFLOW_", "HF_TOKEN"))]:
        del os.environ[name]
    os.environ.update({"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Print, as JSON, the hash of the commit that is checked out and the record. A list of numbers is on one line."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = {"commit": commit.stdout.strip(), **record()}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(re.sub(r"\[\s+((?:\d+,\s+)*\d+)\s+\]", lambda ids: f"[{' '.join(ids[1].split())}]", text))


if __name__ == "__main__":
    main()
