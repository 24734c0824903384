"""The notebook API: each explanation method on a loaded model, and a pair's scores, as plain Python calls."""

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
from shiftbench.explain.feedforward import component_words, principal_components, unit_word_embeddings
from shiftbench.explain.importance import importance
from shiftbench.models import Model, wrap
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.run import explain_and_score
from shiftbench.prompts import Prompt, encode, token_texts
from shiftbench.readers import check_text
from shiftbench.report import attribution_html
from shiftbench.words import StaticVectors, Vocabulary

# Options of the command line that say nothing about scores, and what to do instead.
MEANINGLESS = {
    "out": "nothing is written but explanations; shiftbench score writes results on the command line",
    "tracking": "nothing is tracked; shiftbench score tracks runs on the command line",
    "dry_run": "it always computes; `shiftbench score pair=local pair.base=BASE pair.tuned=TUNED dry_run=true` says "
    "what that would take",
    "gpus": "it is about the jobs of a sweep; give device, or pair__tuned_model__device_map",
    "hydra": "it is about how jobs of a sweep are started",
    "hydra/launcher": "it is about how jobs of a sweep are started",
}


@dataclass(frozen=True)
class Attribution:
    """How much each prompt token mattered for each response token; shows itself as HTML in Jupyter.

    importance_PR: float32. level_PR: uint8, 0..10, uncut. density_P: float32, with the paper's cutoff and norm.
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

    model: a transformers causal language model; the call uses eager attention and puts back what was set.
    response: the text that follows the prompt, its leading space included.
    Raises InputError where the prompt or the response has no token.
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
    """Word pairs that the neuron pairs of self-attention heads encode (section 3.2; docs/mathematics.md).

    words: most frequent first. vectors: static word vectors; None: the model's own input embeddings.
    Columns layer, head, neuron, query_word, key_word, score (cosine of the two words' vectors).
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
    """Words of the principal components of feed-forward down-projections (section 3.3; docs/mathematics.md).

    rank: components a layer, at most half of the model's width. top: words a component, largest |projection| first.
    Columns layer, component, variance_ratio, words (list of str), values (list of float, signed).
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
    """Scores of a pair on the three shift findings, as `shiftbench score pair=local` computes them.

    base, tuned: hub ids or folders (a PEFT adapter's folder is taken as an adapter on base). prompts: None takes the
    packaged Self-Instruct prompts. options: as on the command line with dots as double underscores, for example
    response__max_new_tokens=64. Explanations are kept in the store as the command line's are; nothing is tracked.
    Raises InputError for an option that would do nothing here: those of results on disk, of MLflow, of a dry run.
    """
    keys = {name.replace("__", "."): value for name, value in options.items()}
    for key, value in keys.items():
        _check_option(key, value, prompts is not None)
    given = [f"{key}={_quoted(key, value)}" for key, value in keys.items()]
    pair = ["pair=local", f"pair.base={_quoted('pair.base', base)}", f"pair.tuned={_quoted('pair.tuned', tuned)}"]
    asked = build(composition.compose("config", [*pair, "tracking=none", *given]))
    if prompts is not None:
        if not prompts:
            raise InputError("score: the list of prompts is empty")
        asked = replace(asked, prompts=list(prompts))
    check(asked)
    return all_scores(explain_and_score(asked, Progress()).results)


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
    """Refuse, by InputError, an option of the command line that would do nothing, with what to do instead."""
    check_text(f"{key}={value}", f"score: {f'{key}={value}'!a}")
    group = key.partition(".")[0]
    instead = MEANINGLESS.get(key) or MEANINGLESS.get(group)
    if group == "pair" and not key.startswith(("pair.base_model.", "pair.tuned_model.")):
        instead = "give the two models as base and tuned; a name, a family and a size are for results on disk"
    elif group == "dataset" and own_prompts:
        instead = "prompts= are the prompts, so leave it out"
    elif key.endswith(".saliency"):
        instead = "it is about the report, which shiftbench score writes on the command line"
    if instead:
        raise InputError(f"score: {key.replace('.', '__')}={value!r} would do nothing in Python; {instead}")


def _quoted(key: str, value: object) -> str:
    """A value as Hydra's override grammar reads it back, whatever characters a path has."""
    if isinstance(value, str) and overrides.is_text(key):
        return overrides.literal(value)
    return overrides.quoted(value)
