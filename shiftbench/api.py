"""The notebook API: functions that apply an explanation method to a loaded model, and one that scores a pair."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any, overload

import pandas as pd
from hydra.utils import instantiate
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from shiftbench import ops
from shiftbench.config import composition, folders, overrides
from shiftbench.contracts.explainer import Inputs
from shiftbench.contracts.result import Result, Score, all_scores
from shiftbench.errors import InputError
from shiftbench.explain.attention import Prepared
from shiftbench.explain.feedforward import principal_components
from shiftbench.explain.importance import importance
from shiftbench.explain.reading import component_words, unit_word_embeddings
from shiftbench.models import Model, wrap
from shiftbench.models import load as load_model
from shiftbench.models.pairs import Pair, PairModels
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.recording import summarise
from shiftbench.pipeline.run import explain_and_score
from shiftbench.prompts import Prompt, encode, token_texts
from shiftbench.prompts.datasets.jsonl import parse
from shiftbench.readers import check_text, path_of
from shiftbench.report import RunSummary, attribution_html, verdict_lines, write_report
from shiftbench.report.page import model_name
from shiftbench.report.terminal import MARKS, SHOWN_COMMANDS, SHOWN_REASONS
from shiftbench.report.text import visible
from shiftbench.results import results_folder
from shiftbench.results.writing import check_folder, write
from shiftbench.system.files import check_writable, write_whole
from shiftbench.verdicts import Verdict, Word
from shiftbench.verdicts.decision import by_claim
from shiftbench.verdicts.sentences import interval
from shiftbench.words import StaticVectors, Vocabulary

# Options of `shiftbench score` that would have no effect in Python -> the end of the message that refuses each.
WITHOUT_EFFECT = {
    "out": "only explanations are written, to the store; write the results with .report(path), or on the command line",
    "tracking": "nothing is tracked; shiftbench score tracks runs on the command line",
    "dry_run": "Python always computes; `shiftbench score pair=local pair.base=BASE pair.tuned=TUNED dry_run=true` "
    "estimates the time, memory and disk space",
    "verbose": "it sets what shiftbench score prints",
    "json": "it sets what shiftbench score prints",
    "gpus": "it sets the GPUs of each job of a sweep; give device, or pair__tuned_model__device_map",
    "hydra": "it sets how the jobs of a sweep are started",
    "hydra/launcher": "it sets how the jobs of a sweep are started",
}

OF_LOADING = ("dtype", "device", "trust_remote_code")  # options that say how a model is loaded
ModelOrPath = str | os.PathLike[str] | tuple[nn.Module, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Attribution:
    """How important each prompt token is for each response token. Jupyter shows the prompt coloured by density_P.

    prompt_tokens, response_tokens: the text of each token; special tokens in front of the prompt are not among them.
    importance_PR: importance scores, float32 (float64 for a model in float64). level_PR: importance levels, uint8, 0 to
    10; no cutoff is applied to them. density_P: importance density, float32, with the paper's cutoff of levels and norm
    (docs/mathematics.md).
    """

    prompt_tokens: tuple[str, ...]
    response_tokens: tuple[str, ...]
    importance_PR: Tensor
    level_PR: Tensor
    density_P: Tensor

    def _repr_html_(self) -> str:
        nothing_marked = [False] * len(self.prompt_tokens)
        return attribution_html(self.prompt_tokens, nothing_marked, self.density_P.tolist())


def attribute(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Attribution:
    """Gradient-times-input attribution of a response to its prompt (Wu et al. 2023, section 3.1; docs/mathematics.md).

    model: a transformers causal language model. It is switched to eager attention and eval mode for the call, and back
    afterwards.
    prompt: the text, to which no chat template is applied. response: the text after the prompt, its leading space
    included. Raises InputError where the prompt or the response has no token, where the model or the tokenizer cannot
    be used (`models.wrap`), and where a logit or a gradient is not finite.
    """
    encoded = encode(Prompt("prompt", prompt, ()), tokenizer)
    ids = encoded.response_ids(tokenizer, response)
    if not encoded.prompt_ids or not ids:
        raise InputError(f"attribute: the {'response' if encoded.prompt_ids else 'prompt'} has no token")
    finding = composition.packaged("finding/instruction_recognition")
    with wrap(model, tokenizer) as loaded:
        importance_PR, _ = importance(loaded, encoded, ids, memory=finding.explain.memory)
    level_PR = ops.importance_levels(importance_PR, finding.explain.levels)
    density_P = ops.importance_density(level_PR, cutoff=finding.cutoff, p=finding.p)
    return Attribution(encoded.tokens, token_texts(tokenizer, ids), importance_PR, level_PR, density_P)


def word_pairs(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    words: Sequence[str],
    vectors: StaticVectors | None,
    layers: Iterable[int] | None = None,
) -> pd.DataFrame:
    """Word pairs that the neuron pairs of attention heads encode (Wu et al. 2023, section 3.2; docs/mathematics.md).

    words: the vocabulary, the most frequent word first. vectors: static word vectors; None: the model's own input
    embeddings are used. layers: numbers of layers, from 0; None: all layers.
    Returns one row for each word pair of each neuron pair, with the columns layer, head, neuron (all from 0; the neuron
    counts within its head), query_word, key_word and score (cosine of the two words' vectors). Raises InputError where
    there are fewer words than `k` in conf/explain/attention.yaml (100), and for a layer that the model does not have,
    and where the model or the tokenizer cannot be used (`models.wrap`).
    """
    method = instantiate(composition.packaged("explain/attention"))
    _check_words("word_pairs", words, method.k)
    with wrap(model, tokenizer) as loaded:
        prepared = Prepared(method, loaded, Inputs((), Vocabulary(tuple(words), "words"), vectors))
        rows = [(layer, *pair) for layer in _layers(loaded, layers) for pair in prepared.pairs(layer)]
    return pd.DataFrame(rows, columns=["layer", "head", "neuron", "query_word", "key_word", "score"])


def concepts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    words: Sequence[str],
    layers: Iterable[int] | None = None,
    rank: int = 300,
    top: int = 50,
) -> pd.DataFrame:
    """Words of the principal components of feed-forward down-projections (Wu et al. 2023, section 3.3).

    words: the vocabulary. layers: numbers of layers, from 0; None: all layers. rank: the number of components of a
    layer; at most half of the model's width, rounded down, are returned. top: the number of words of a component.
    Returns one row for each component, with the columns layer, component (from 0, the largest variance first),
    variance_ratio (the share of the layer's variance along it), words (list of str, the largest |projection| first) and
    values (list of float: the words' projections, signed). Raises InputError where there are fewer words than `top`,
    and for a layer that the model does not have, and where the model or the tokenizer cannot be used (`models.wrap`).
    """
    _check_words("concepts", words, top)
    rows = []
    with wrap(model, tokenizer) as loaded:
        unit_VD = unit_word_embeddings(loaded, tuple(words))
        for layer in _layers(loaded, layers):
            component_CD, ratio_C = principal_components(loaded.views.down_FD(layer), rank)
            value_CK, index_CK = component_words(unit_VD, component_CD, top)
            named = ([words[i] for i in row] for row in index_CK.tolist())
            both = zip(ratio_C.tolist(), named, value_CK.tolist(), strict=True)
            rows += [(layer, component, *row) for component, row in enumerate(both)]
    return pd.DataFrame(rows, columns=["layer", "component", "variance_ratio", "words", "values"])


class Scores(Sequence[Score]):
    """The scores of a pair, and what may be said of it: a sequence of `Score`, in the order of the findings.

    verdicts: on the claims of the findings, by 'FINDING' for a finding's first claim and by 'FINDING.SCORE' for its
    further claims (docs/verdicts.md); `verdicts[...].word.value` is the word. results: one for each finding, with its
    tables and figures. notes: what a reader of the scores must know about how they were computed.

    Printed, it shows the verdicts, as the command line does; Jupyter shows them as a table. `to_frame` has all scores.
    """

    def __init__(self, summary: RunSummary, identity: Mapping[str, str]) -> None:
        """summary: what the report is made from. identity: what `Session.identity` says of the two models."""
        self._summary, self._identity = summary, dict(identity)
        self._scores = all_scores(summary.results)
        self.results: Sequence[Result] = list(summary.results)
        self.verdicts: Mapping[str, Verdict] = dict(by_claim(summary.verdicts))
        self.notes: Sequence[str] = list(summary.notes)

    @overload
    def __getitem__(self, index: int) -> Score: ...
    @overload
    def __getitem__(self, index: slice) -> list[Score]: ...
    def __getitem__(self, index: int | slice) -> Score | list[Score]:
        return self._scores[index]

    def __len__(self) -> int:
        return len(self._scores)

    def to_frame(self) -> pd.DataFrame:
        """A row for each score, with the columns finding, name, value, low, high, p and n."""
        return pd.DataFrame(map(vars, self._scores), columns=[field.name for field in fields(Score)])

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the report, and return the path of the page.

        path: a file that ends in .html gets the page alone, which loads nothing. Any other path is a folder that gets
        all results, as `shiftbench score` writes them; None: ./shiftbench-runs/PAIR. Raises InputError where the file
        or the folder cannot be written, and where the folder holds the results of another pair; Unwritable where the
        folder fills up while the results are written.
        """
        target = path_of(str(path or Path(folders.RUNS) / folders.file_name(str(self._summary.pair["name"]))), "path")
        if target.suffix == ".html":
            check_writable(target, "path")
            with tempfile.TemporaryDirectory() as folder:
                page = write_report(self._summary, Path(folder)).read_text(encoding="utf-8")
            write_whole(target, page, "path")
            return target
        check_folder(target)
        results_folder.check_pair(target, self._identity, self._summary.config)
        return write(self._summary, target)

    def __repr__(self) -> str:
        after = self._next()
        lines = [line.plain for line in verdict_lines(self._without_commands())]
        return "\n".join([*lines, *([""] if after else []), *after])

    def _repr_html_(self) -> str:
        summary = self._summary
        pair = summary.pair
        rows = "".join(_html_row(verdict) for verdict in summary.verdicts)
        models = f"{model_name(pair['base'])} \u2192 {model_name(pair['tuned'])}, {pair['prompts_explained']} prompts"
        after = "".join(f"<br>{_escaped(line)}" for line in self._next())
        return (
            f"<div><p>{_escaped(models)}</p><table><thead><tr><th>verdict</th><th>claim</th><th>score</th>"
            f"<th>reasons</th></tr></thead><tbody>{rows}</tbody></table><p>{len(self)} scores: "
            f"<code>.to_frame()</code>; the report: <code>.report()</code>{after}</p></div>"
        )

    def _without_commands(self) -> RunSummary:
        """The summary without the commands that would decide a claim: in Python they are calls (`_next`)."""
        verdicts = [replace(verdict, remedy=None) for verdict in self._summary.verdicts]
        return replace(self._summary, verdicts=verdicts)

    def _next(self) -> list[str]:
        """What may help to decide open claims: Python calls or shell commands, a line each, at most SHOWN_COMMANDS."""
        remedies = [verdict.remedy for verdict in self._summary.verdicts if verdict.remedy is not None]
        lines = dict.fromkeys(f"next: {remedy.command or _call(remedy.overrides)}" for remedy in remedies)
        return list(lines)[:SHOWN_COMMANDS]


def score(
    base: ModelOrPath,
    tuned: ModelOrPath,
    prompts: Sequence[Prompt | str | Mapping[str, Any]] | None = None,
    **options: Any,
) -> Scores:
    """The scores and verdicts of a pair on every finding of the suite, as `shiftbench score pair=local` computes them.

    base, tuned: each is a hub id, a folder, a GGUF file, or (model, tokenizer): a transformers causal language model
    that you have loaded, and its tokenizer. A PEFT adapter's folder is taken as an adapter on base. A loaded model is
    switched to eager attention and eval mode for the call, and back afterwards.
    prompts: None takes those of the option dataset, by default the packaged Self-Instruct prompts. Otherwise each is a
    text, which is an instruction as a whole; a dict with the fields of a line of dataset=jsonl (docs/own_prompts.md),
    of which "id" and "instruction" may be left out too (without "instruction" no character counts as instruction); or a
    `Prompt`.
    options: as on the command line, with double underscores for dots, for example response__max_new_tokens=64. The
    suite is 'all' unless the option suite names another: the three findings of the paper and a check of attributions.
    Explanations are stored as on the command line; nothing is tracked, and `Scores.report` writes results.
    Raises InputError for an option that would have no effect here, such as out, tracking and dry_run, for an empty list
    of prompts, for models that cannot be compared, and as the command does.
    """
    keys = {name.replace("__", "."): value for name, value in options.items()}
    loaded = [side for side in (base, tuned) if not isinstance(side, str | os.PathLike)]
    for key, value in keys.items():
        _check_option(key, value, prompts is not None, bool(loaded))
    own = None if prompts is None else _prompts(prompts)
    given = [f"{key}={_quoted(key, value)}" for key, value in keys.items()]
    with ExitStack() as stack:
        (base_name, base_model), (tuned_name, tuned_model) = (_entered(side, stack) for side in (base, tuned))
        pair = ["pair=local"]
        pair += [f"{key}={_quoted(key, name)}" for key, name in (("pair.base", base_name), ("pair.tuned", tuned_name))]
        config, choices = composition.compose_with_choices("config", [*pair, "tracking=none", *given])
        job = build(config)
        if own is not None:
            job = replace(job, prompts=own)
        check(job, base_model, tuned_model)
        outcome = explain_and_score(job, Progress(), lambda pair: GivenModels(pair, base_model, tuned_model))
    summary = summarise(config, job, outcome, choices["suite"], () if loaded else [*pair, *given])
    if own is not None:
        summary = replace(summary, pair={**summary.pair, "dataset": "prompts given in Python"})
    return Scores(summary, outcome.identity)


class GivenModels(PairModels):
    """The models of a pair, of which none, one or both are loaded already.

    A base that is not loaded yet is loaded when it is first used, and so is the tuned model, unless base is given: the
    tuned model is then loaded at once.
    """

    def __init__(self, pair: Pair, base: Model | None, tuned: Model | None) -> None:
        # The sources of a loaded model and of one that is to be loaded may be equal, as where the caller changed the
        # weights of a model after loading it. So a given model is never used in place of the other one.
        super().__init__(pair, lambda source: tuned or load_model(source), lambda source: base or load_model(source))
        if base is not None or tuned is not None:
            self.tuned = tuned or load_model(pair.tuned)


def _entered(given: ModelOrPath, stack: ExitStack) -> tuple[str, Model | None]:
    """(the path, None), or (the model's name, the model) for a model that the caller has loaded.

    stack: restores the state of a loaded model when it is closed. Raises InputError for anything but a path or (model,
    tokenizer), and as `models.wrap` does.
    """
    if isinstance(given, str | os.PathLike):
        return str(os.fspath(given)), None
    if not isinstance(given, tuple) or len(given) != 2:
        raise InputError(
            f"score: a model is a path, a hub id or (model, tokenizer), got {type(given).__name__}; give the tokenizer "
            "together with the model"
        )
    model = stack.enter_context(wrap(*given))
    return model.name, model


def _prompts(given: Sequence[Prompt | str | Mapping[str, Any]]) -> list[Prompt]:
    """The prompts of the argument of `score`. Dicts without an id and texts get their place in the list, from 1, as id.

    Raises InputError where it is a single text or dict, is empty, or has an item that is no prompt.
    """
    if isinstance(given, str | Mapping):
        raise InputError("score: prompts must be a list; give [prompt] for a single one")
    if not given:
        raise InputError("score: the list of prompts is empty; give at least one prompt, or prompts=None")
    return [_prompt(number, item) for number, item in enumerate(given, start=1)]


def _prompt(number: int, given: Any) -> Prompt:
    if isinstance(given, Prompt):
        return given
    if isinstance(given, str):
        given = {"prompt": given, "instruction": [[0, len(given)]]}
    if not isinstance(given, Mapping):
        raise InputError(f"score: prompt {number} must be a text, a dict or a Prompt, got {type(given).__name__}")
    try:
        return parse(json.dumps({"id": str(number), "instruction": [], **given}))
    except (TypeError, InputError) as error:
        raise InputError(f"score: prompt {number}: {error}") from None


def _call(overrides: Sequence[str]) -> str:
    """The call of `score` that adds the overrides of a remedy: score(..., control='permuted', control__draws=39)."""
    arguments = []
    for override in overrides:
        key, _, value = override.partition("=")
        items = value.removeprefix("[").removesuffix("]").split(",")
        shown = value if value.lstrip("-").isdigit() else repr(items if value.startswith("[") else value)
        name = key.replace(".", "__")
        arguments.append(f"{name}={shown}" if name.isidentifier() else f"**{{{key!r}: {shown}}}")
    return f"score(..., {', '.join(arguments)})"


def _html_row(verdict: Verdict) -> str:
    sign, _ = MARKS[verdict.word]
    shown = "" if verdict.word is Word.NOT_APPLICABLE else interval(verdict.headline)
    reasons = "<br>".join(_escaped(reason) for reason in verdict.reasons[:SHOWN_REASONS])
    cells = (_escaped(f"{sign} {verdict.word.value}"), _escaped(verdict.claim.short), _escaped(shown), reasons)
    style = ' style="text-align:left"'
    return f"<tr>{''.join(f'<td{style}>{cell}</td>' for cell in cells)}</tr>"


def _escaped(text: object) -> str:
    return escape(visible(str(text)))


def _layers(model: Model, layers: Iterable[int] | None) -> list[int]:
    wanted = list(range(model.views.layers) if layers is None else layers)
    beyond = [layer for layer in wanted if not 0 <= layer < model.views.layers]
    if beyond:
        raise InputError(f"layer {beyond[0]} does not exist: the model has layers 0 to {model.views.layers - 1}")
    return wanted


def _check_words(caller: str, words: Sequence[str], needed: int) -> None:
    if len(words) < needed:
        raise InputError(f"{caller}: needs at least {needed} words, got {len(words)}")


def _check_option(key: str, value: Any, own_prompts: bool, loaded: bool) -> None:
    """Raise InputError for an option that would have no effect in Python; the message says what to do instead.

    Raises it too where the key or the value is a text that `check_text` refuses. key: the option with dots. value: its
    value; apart from `check_text` it serves the message only. own_prompts: whether the caller gave prompts=. loaded:
    whether the caller gave a loaded model.
    """
    check_text(f"{key}={value}", f"score: {f'{key}={value}'!a}")
    group = key.partition(".")[0]
    instead = WITHOUT_EFFECT.get(key) or WITHOUT_EFFECT.get(group)
    if group == "pair" and not key.startswith(("pair.base_model.", "pair.tuned_model.")):
        instead = "give the two models as base and tuned; a name, a family and a size are for results on disk"
    elif group == "dataset" and own_prompts:
        instead = "the prompts are those of prompts=, so leave it out"
    elif loaded and (key in OF_LOADING or group == "pair"):
        instead = "a model was given loaded; load it with this option, or give its path"
    if instead:
        raise InputError(f"score: {key.replace('.', '__')}={value!r} would have no effect in Python; {instead}")


def _quoted(key: str, value: object) -> str:
    """The value of the option `key` as text in Hydra's override grammar.

    A str is taken literally, with all its characters, where the option is a path, a hub id or a name; in any other str
    '${...}' is interpolated.
    """
    if isinstance(value, str) and overrides.is_text(key):
        return overrides.literal(value)
    return overrides.quoted(value)
