"""The notebook API: functions that apply an explanation method to a loaded model, and one that scores a pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from shiftbench import ops
from shiftbench.config import composition, overrides
from shiftbench.contracts.explainer import Inputs
from shiftbench.contracts.result import Score, all_scores
from shiftbench.errors import InputError
from shiftbench.explain.attention import Prepared
from shiftbench.explain.feedforward import principal_components
from shiftbench.explain.importance import importance
from shiftbench.explain.reading import component_words, unit_word_embeddings
from shiftbench.models import Model, wrap
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.run import explain_and_score
from shiftbench.prompts import Prompt, encode, token_texts
from shiftbench.readers import check_text
from shiftbench.report import attribution_html
from shiftbench.words import StaticVectors, Vocabulary

# Options of `shiftbench score` that would have no effect in Python -> the end of the message that refuses each.
WITHOUT_EFFECT = {
    "out": "only explanations are written, to the store; shiftbench score writes results on the command line",
    "tracking": "nothing is tracked; shiftbench score tracks runs on the command line",
    "dry_run": "Python always computes; `shiftbench score pair=local pair.base=BASE pair.tuned=TUNED dry_run=true` "
    "estimates the time, memory and disk space",
    "verbose": "it sets what shiftbench score prints",
    "json": "it sets what shiftbench score prints",
    "gpus": "it sets the GPUs of each job of a sweep; give device, or pair__tuned_model__device_map",
    "hydra": "it sets how the jobs of a sweep are started",
    "hydra/launcher": "it sets how the jobs of a sweep are started",
}


@dataclass(frozen=True)
class Attribution:
    """How important each prompt token is for each response token. Jupyter shows the prompt coloured by density_P.

    prompt_tokens, response_tokens: the text of each token; special tokens in front of the prompt are not among them.
    importance_PR: importance scores, float32 (float64 for a model in float64). level_PR: importance levels, uint8, 0 to
    10, without a cutoff. density_P: importance density, float32, with the paper's cutoff and norm
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

    model: a transformers causal language model. It is switched to eager attention for the call, and back afterwards.
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
    Returns one row for each word pair, with the columns layer, head, neuron, query_word, key_word and score (cosine of
    the two words' vectors). Raises InputError where there are fewer words than `k` in conf/explain/attention.yaml
    (100), and for a layer that the model does not have.
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
    layer; at most half of the model's width are returned, also for a larger rank. top: the number of words of a
    component.
    Returns one row for each component, with the columns layer, component (from 0, the largest variance first),
    variance_ratio (the share of the variance along it), words (list of str, the largest |projection| first) and values
    (list of float: the words' projections, signed). Raises InputError where there are fewer words than `top`, and for a
    layer that the model does not have.
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


def score(base: str, tuned: str, prompts: Sequence[Prompt] | None = None, **options: Any) -> list[Score]:
    """The scores of a pair on every finding of the suite, as `shiftbench score pair=local` computes them.

    The suite is 'all' unless the option suite names another: the three findings of the paper and a check of
    attributions. base, tuned: hub ids or folders (a PEFT adapter's folder is taken as an adapter on base). prompts:
    None takes those of the option dataset, by default the packaged Self-Instruct prompts. options: as on the command
    line, with double underscores for dots, for example response__max_new_tokens=64. Explanations are stored as on the
    command line; no results are written or tracked. Raises InputError for an option that would have no effect here,
    such as out, tracking and dry_run, for an empty list of prompts, and as the command does.
    """
    keys = {name.replace("__", "."): value for name, value in options.items()}
    for key, value in keys.items():
        _check_option(key, value, prompts is not None)
    given = [f"{key}={_quoted(key, value)}" for key, value in keys.items()]
    pair = ["pair=local", f"pair.base={_quoted('pair.base', base)}", f"pair.tuned={_quoted('pair.tuned', tuned)}"]
    job = build(composition.compose("config", [*pair, "tracking=none", *given]))
    if prompts is not None:
        if not prompts:
            raise InputError("score: the list of prompts is empty; give at least one prompt, or prompts=None")
        job = replace(job, prompts=list(prompts))
    check(job)
    return all_scores(explain_and_score(job, Progress()).results)


def _layers(model: Model, layers: Iterable[int] | None) -> list[int]:
    wanted = list(range(model.views.layers) if layers is None else layers)
    beyond = [layer for layer in wanted if not 0 <= layer < model.views.layers]
    if beyond:
        raise InputError(f"layer {beyond[0]} does not exist: the model has layers 0 to {model.views.layers - 1}")
    return wanted


def _check_words(caller: str, words: Sequence[str], needed: int) -> None:
    if len(words) < needed:
        raise InputError(f"{caller}: needs at least {needed} words, got {len(words)}")


def _check_option(key: str, value: Any, own_prompts: bool) -> None:
    """Raise InputError for an option that would have no effect in Python; the message says what to do instead.

    key: the option with dots. value: its value, for the message. own_prompts: whether the caller gave prompts=.
    """
    check_text(f"{key}={value}", f"score: {f'{key}={value}'!a}")
    group = key.partition(".")[0]
    instead = WITHOUT_EFFECT.get(key) or WITHOUT_EFFECT.get(group)
    if group == "pair" and not key.startswith(("pair.base_model.", "pair.tuned_model.")):
        instead = "give the two models as base and tuned; a name, a family and a size are for results on disk"
    elif group == "dataset" and own_prompts:
        instead = "the prompts are those of prompts=, so leave it out"
    elif key.endswith(".saliency"):
        instead = "it sets a part of the report, which shiftbench score writes on the command line"
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
