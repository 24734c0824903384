"""Runs a certification: one trial after the other. The outcome of each is kept, so a run that was stopped can go on."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from shiftbench.certify.scoring import Setting, plantable, score_trial
from shiftbench.certify.tally import markdown, tally
from shiftbench.certify.trials import Design
from shiftbench.config import composition
from shiftbench.config.folders import weights_fingerprint
from shiftbench.config.instantiation import instantiate
from shiftbench.config.names import nearest
from shiftbench.contracts.control import Control
from shiftbench.errors import InputError
from shiftbench.models.pairs import Loader
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.estimate import estimate
from shiftbench.pipeline.job import Job, build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.recording import settings, versions
from shiftbench.readers import json_value
from shiftbench.readers.numbers import check_whole
from shiftbench.store.explanation import content_key
from shiftbench.system.files import check_writable, write_whole
from shiftbench.verdicts.decision import needed_draws

RESULTS, TABLE, TRIALS = "certification.json", "certification.md", "trials"


def certify(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Score all trials of a configuration of conf/certify.yaml, and return the document of `tally.tally`.

    folder: certification.json, certification.md and, below trials/, one file a trial are written there. Trials whose
    file is there are not scored again. Raises InputError for bad input, and where such a file has other settings or is
    no JSON.
    """
    job, design = build(config), _design(config)
    check(job)
    _check(job, config)
    todo = design.trials(plantable(job))
    digest = _digest(config, job)
    check_writable(folder / RESULTS, "out")
    setting = _setting(config, job, folder)
    conditions = _conditions(config, job)
    done: list[dict[str, Any]] = []
    began, computed = time.monotonic(), 0
    for position, trial in enumerate(todo, start=1):
        path = folder / TRIALS / f"{trial.name}.json"
        outcome = _kept(path, digest)
        if outcome is None:
            outcome = score_trial(setting, trial, _progress(f"{position} of {len(todo)}, {trial.name}"))
            write_whole(path, json.dumps({"settings": digest, **outcome}, indent=1) + "\n", "out")
            computed += 1
            # Each trial that is left is taken to need the mean time of those that this run scored. That is too long at
            # first, because the first one also computes what later ones share.
            left = (time.monotonic() - began) / computed * (len(todo) - position)
            _say(f"{position} of {len(todo)}: {_line(outcome)}; about {left / 60:.0f} min left")
        done.append(outcome)
        document = tally(job.findings, done, conditions)
        write_whole(folder / RESULTS, json.dumps(document, indent=1) + "\n", "out")
        write_whole(folder / TABLE, markdown(document), "out")
    return tally(job.findings, done, conditions)


def dry_run(config: DictConfig) -> str:
    """The number of trials and their names, and the estimate of the job on all its prompts, as text.

    The estimate leaves out null models. Loads no model. Errors as in `certify`.
    """
    job, design = build(config), _design(config)
    check(job)
    _check(job, config)
    names = [trial.name for trial in design.trials(plantable(job))]
    return (
        f"{len(names)} pairs would be scored: {', '.join(names)}\nThe estimate of one of them, without null models:\n"
        + (estimate(job))
    )


def _design(config: DictConfig) -> Design:
    planted = {str(score): list(sizes) for score, sizes in config.planted.items()}
    chosen = list(planted) if config.plant is None else [str(score) for score in config.plant]
    for score in chosen:
        if score not in planted:
            raise InputError(f"plant: {score!r} is not known; {nearest(score, planted)}")
    planted = {score: planted[score] for score in chosen}
    kinds = [kind for kind in config.kinds if kind != "continued" or config.continued is not None]
    return Design(config.pairs, kinds, list(config.scales), config.shifts, planted)


def _check(job: Job, config: DictConfig) -> None:
    needed = needed_draws(config.bootstrap.confidence)
    if job.control is None or job.control.draws < needed:
        draws = "none" if job.control is None else str(job.control.draws)
        raise InputError(
            f"certify needs at least {needed} null models for each pair, got {draws}: with fewer, no verdict is "
            f"supported or opposite, and none can be false; give control=permuted control.draws={needed}"
        )
    if not job.needs_models:
        raise InputError("certify makes pairs of loaded models, and no finding of the suite needs one")
    check_whole("prompts", config.prompts, 1)
    check_whole("seed", config.seed, None)
    if job.pair.base == job.pair.tuned:
        raise InputError("certify takes the size of tuning's change from the pair, and base and tuned are one model")


def _setting(config: DictConfig, job: Job, folder: Path) -> Setting:
    def one_draw(name: str, seed: int) -> Control:
        options = composition.packaged(f"control/{name}")
        options.draws, options.seed = 1, seed
        control: Control = instantiate(options)
        return control

    return Setting(
        job=job,
        load=Loader(),
        gaussian=lambda seed: one_draw("gaussian", seed),
        permuted=lambda seed: one_draw("permuted", seed),
        continued=None if config.continued is None else _like(job, str(config.continued)),
        prompts=config.prompts,
        seed=config.seed,
        folder=folder / TRIALS,
        own_store=config.store.path is None,
    )


def _like(job: Job, path: str) -> Any:
    """The source of the model at `path`, with the dtype, the device and the other options of base.

    It has no revision, adapter, GGUF file or tokenizer of its own.
    """
    return dataclasses.replace(job.pair.base, path=path, revision=None, adapter=None, gguf_file=None, tokenizer=None)


def _digest(config: DictConfig, job: Job) -> str:
    """sha256 (hex) of the settings that a trial's outcome depends on.

    Each model is among them by samples of its weights (`weights_fingerprint`).
    """
    pair, continued = config.pair, config.continued
    control = vars(job.control) if job.control is not None else {}
    return content_key({
        "findings": settings(config),
        "versions": {k: v for k, v in versions(job.findings).items() if k.startswith(("finding.", "explain."))},
        "base": weights_fingerprint(str(pair.base), pair.get("base_model") or {}),
        "tuned": weights_fingerprint(str(pair.tuned), pair.get("tuned_model") or {}),
        "dtype": job.pair.base.dtype,
        "control": {name: value for name, value in control.items() if isinstance(value, str | int | float)},
        "prompts": [prompt.id for prompt in job.prompts],
        "of_trial": config.prompts,
        "tokens": job.responses.max_new_tokens,
        "response": job.responses.mode,
        "template": job.template,
        "vocabulary": job.vocabulary.digest,
        "vectors": None if job.vectors is None else job.vectors.digest,
        "continued": None if continued is None else weights_fingerprint(str(continued), {}),
        "seed": config.seed,
    })  # fmt: skip


def _conditions(config: DictConfig, job: Job) -> dict[str, Any]:
    assert job.control is not None
    return {
        "pair": job.pair.name,
        "prompts": min(config.prompts, len(job.prompts)),
        "dataset": str(config.dataset.get("name", "")),
        "tokens": job.responses.max_new_tokens,
        "control": job.control.kind,
        "draws": job.control.draws,
        "vectors": "input embeddings" if job.vectors is None else job.vectors.name,
        "methods": sorted({str(vars(f.explain).get("definition", f.explain.method)) for f in job.findings.values()}),
        "seed": config.seed,
        "shiftbench": version("shiftbench"),
    }


def _kept(path: Path, digest: str) -> dict[str, Any] | None:
    """The outcome of a trial that an earlier run has finished; None where there is none.

    digest: `_digest` of this run. Raises InputError where the trial was scored with another one, or its file is no
    JSON.
    """
    if not path.is_file():
        return None
    found: dict[str, Any] = json_value(path.read_bytes(), str(path))
    if not isinstance(found, dict) or found.pop("settings", None) != digest:
        raise InputError(f"{path} was scored under other settings, or with another version; give another out=")
    return found


def _progress(title: str) -> Progress:
    """A Progress that shows on a terminal, after `title`, which stage of a trial is running; elsewhere it is silent."""
    if not sys.stderr.isatty():
        return Progress(watch=lambda stage, computed: None)

    def show(stage: str, computed: bool | None) -> None:
        sys.stderr.write(f"\r\x1b[2K{title}: {stage}"[:160])
        sys.stderr.flush()

    return Progress(watch=show)


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K")
    print(line, file=sys.stderr, flush=True)


def _line(outcome: dict[str, Any]) -> str:
    """One line on a finished trial: its name, and its verdicts' words and its time, or why it was refused."""
    if "refused" in outcome:
        return f"{outcome['trial']}: refused: {outcome['refused']}"
    words = ", ".join(f"{key.partition('.')[2]} {found['word']}" for key, found in outcome["verdicts"].items())
    return f"{outcome['trial']}: {words} ({outcome['seconds']:.0f} s)"
