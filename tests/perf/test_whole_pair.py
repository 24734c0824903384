"""A whole pair: responses, attribution, word pairs and concepts of two models, against the paper's pipeline."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from shiftbench import ops
from shiftbench.config import composition
from shiftbench.explain import attention
from shiftbench.models import Model
from shiftbench.perf import paper
from shiftbench.perf.cases import Case
from shiftbench.perf.compare import Agreement, Sampled
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import Job, build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.recording import Outcome
from shiftbench.pipeline.run import explain_and_score
from shiftbench.prompts import encode
from shiftbench.store.explanation import Unit
from shiftbench.store.store import Store
from shiftbench.words import word_embeddings
from tests.perf import paper_knowledge
from tests.perf.compare import alternate
from tests.perf.models import SEED, packaged, smollm
from tests.perf.paper_knowledge import Heads, of_head, sampled_heads
from tests.perf.rows import ratio_rows
from tests.perf.targets import PAIR

pytestmark = pytest.mark.perf
PIPELINE = "paper's pipeline"
PROMPTS, NEW_TOKENS, NOISE = 20, 64, 0.02  # noise: of each tensor, relative to its standard deviation
# All prompts, as the loop's time is that of the longest few.
SAMPLE = {"tokens": 2, "heads": 6, "layers": 2}


@dataclass
class Side:
    """What the pipeline found for one model."""

    responses: dict[str, list[int]] = field(default_factory=dict)
    importance: dict[str, tuple[list[int], Tensor]] = field(default_factory=dict)
    heads: Heads = field(default_factory=dict)
    concepts: dict[int, Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def test_whole_pair(benchmark: Any, record: Callable[..., None], folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Both explain each model's own responses and read the same vocabulary; the store is empty."""
    asked = build(
        composition.compose(
            "config",
            [
                "pair=local", f"pair.base={folders[0]}", f"pair.tuned={folders[1]}", "tracking=none", "device=cpu",
                f"dataset.limit={PROMPTS}", f"response.max_new_tokens={NEW_TOKENS}",
                "response.mode=own", "response.beside=null", f"store.path={tmp_path / 'store'}",
                "~findings.attribution_faithfulness",  # a check that the paper does not make
            ],
        )
    )  # fmt: skip
    check(asked)
    attention._cooccurrence.cache_clear()  # what base and tuned share is theirs, but nothing earlier
    compared = alternate(
        benchmark,
        lambda asked: explain_and_score(asked, Progress()),
        {PIPELINE: lambda asked: pipeline(asked, folders)},
        [asked],
    )
    sides: Mapping[str, Side] = compared.peers[PIPELINE].result
    stages = {name: sum(side.seconds[name] for side in sides.values()) for name in next(iter(sides.values())).seconds}
    note = f"{NEW_TOKENS} new tokens, own responses; the pipeline: "
    note += ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items())
    agreements = {PIPELINE: agreement(compared.ours.result, asked, sides)}
    record(*ratio_rows("whole pair", PAIR, compared, agreements, {PIPELINE: note}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """SmolLM2, and SmolLM2 with seeded noise on every weight, so that the two share nothing."""
    root, model = tmp_path_factory.mktemp("pair"), smollm()
    draws, plain = torch.Generator().manual_seed(SEED), unquantised(model.module)
    noisy = copy.deepcopy(plain)
    with torch.no_grad():
        for parameter in noisy.parameters():
            noise = torch.randn(parameter.shape, generator=draws)
            parameter += NOISE * parameter.std(correction=0) * noise
    for name, module in (("base", plain), ("tuned", noisy)):
        module.save_pretrained(root / name)
        model.tokenizer.save_pretrained(root / name)
    return root / "base", root / "tuned"


def unquantised(module: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a module that does not remember to have been read from a GGUF file: those are not saved."""
    config = copy.deepcopy(module.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    made = type(module)(config).eval()
    made.load_state_dict(module.state_dict())
    return made


def pipeline(asked: Job, folders: Sequence[Path]) -> Sampled:
    """The paper's for both models, each stage on a sample and as seconds for the whole."""
    sides = {}
    for name, folder in zip(("base", "tuned"), folders, strict=True):
        begin = time.perf_counter()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        side = Side(seconds={"loading": time.perf_counter() - begin})
        model = Model(name, module, tokenizer, None, "float32")
        local(model, asked, side)
        heads(model, asked, side)
        concepts(model, asked, side)
        sides[name] = side
    part = "extrapolated from {tokens} tokens of each response, {heads} heads, {layers} layers a model"
    return Sampled(sides, sum(sum(side.seconds.values()) for side in sides.values()), part.format(**SAMPLE))


def local(model: Model, asked: Job, side: Side) -> None:
    """Greedy responses and the loop over their tokens."""
    side.seconds |= {"responses": 0.0, "loop": 0.0}
    for prompt in asked.prompts:
        encoded = encode(prompt, model.tokenizer)
        begin = time.perf_counter()
        response = greedy(model.module, encoded.prefix_ids + encoded.prompt_ids)
        side.seconds["responses"] += time.perf_counter() - begin
        name = str(list(encoded.prompt_ids))  # what a stored unit says of its prompt
        side.responses[name] = response
        if not response:
            continue
        begin = time.perf_counter()
        found = paper.loop(model.module, Case(encoded, tuple(response), ("", "")), tokens=SAMPLE["tokens"])
        if not isinstance(found, Sampled):  # so short a response that all its tokens were chosen
            found = Sampled(found, time.perf_counter() - begin, "")
        side.seconds["loop"] += found.seconds
        side.importance[name] = paper.spread(len(response), SAMPLE["tokens"]), found.result


def greedy(module: PreTrainedModel, ids: tuple[int, ...]) -> list[int]:
    """The continuation up to the end of text."""
    given = torch.tensor([ids])
    with torch.no_grad():
        made = module.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=NEW_TOKENS
        )[0, len(ids) :].tolist()
    ends = module.generation_config.eos_token_id
    return made[:-1] if made and made[-1] in (ends if isinstance(ends, list) else [ends]) else made


def heads(model: Model, asked: Job, side: Side) -> None:
    """Word pairs."""
    assert asked.vectors is not None
    found = sampled_heads(model, asked.vocabulary, asked.vectors, SAMPLE["heads"], keep=True)
    side.heads, side.seconds["word pairs"] = found.result, found.seconds


def concepts(model: Model, asked: Job, side: Side) -> None:
    """Components and their words; naming them is the annotator's, which ours is charged for and the paper is not."""
    method, views = packaged("feedforward"), model.views
    begin = time.perf_counter()
    embedding_VD = word_embeddings(views.embedding_out_VD(), model.tokenizer, asked.vocabulary.words)
    unit_VD = torch.nn.functional.normalize(embedding_VD, dim=1)
    shared = time.perf_counter() - begin
    chosen = paper.spread(views.layers, SAMPLE["layers"])
    begin = time.perf_counter()
    for layer in chosen:
        down_FD = views.down_FD(layer)
        side.concepts[layer], _ = paper_knowledge.component_words(down_FD, unit_VD, method.rank, method.top)
    side.seconds["components"] = shared + (time.perf_counter() - begin) * views.layers / len(chosen)


def agreement(outcome: Outcome, asked: Job, sides: Mapping[str, Side]) -> Agreement:
    """What ours stored against what the pipeline found, part by part."""
    same = {"responses": [0, 0], "levels": [0, 0], "head pairs": [0, 0], "components": [0, 0]}
    for model, side in zip(outcome.models, sides.values(), strict=True):
        units = stored(asked.store, model.weights_digest)
        for prompt, response in side.responses.items():
            _count(same["responses"], units["greedy_response", prompt].arrays["response_R"].tolist() == response, 1)
        for prompt, (places, importance_PR) in side.importance.items():
            level_PR = units["attribution", prompt].arrays["level_PR"][:, places]
            theirs_PR = ops.importance_levels(importance_PR, packaged("attribution").levels)
            _count(same["levels"], int((level_PR == theirs_PR).sum()), theirs_PR.numel())
        for (layer, head), (pairs, _) in side.heads.items():
            mine, _ = of_head(units["word_pairs", f"layer {layer}"], head)
            _count(same["head pairs"], pairs - abs(mine - pairs), pairs)
        for layer, theirs_CD in side.concepts.items():
            mine_CD = units["concepts", f"layer {layer}"].arrays["component_CD"]
            close = (mine_CD * theirs_CD).sum(1).abs() > 1 - 1e-3
            _count(same["components"], int(close.sum()), len(close))
    text = ", ".join(f"{name} {good} of {count} equal" for name, (good, count) in same.items())
    return Agreement(text, all(good >= 0.98 * count for good, count in same.values()))


def _count(total: list[int], good: int, count: int) -> None:
    total[0] += good
    total[1] += count


def stored(store: Store, weights: str) -> dict[tuple[str, str], Unit]:
    """Units of one model by (method, prompt or layer)."""
    found = {}
    for entry in store.entries():
        if entry.record.get("weights") == weights:
            unit = store.get(entry.key)
            assert unit is not None
            found[str(entry.record["method"]), _named(entry.record)] = unit
    return found


def _named(record: Mapping[str, Any]) -> str:
    return f"layer {record['layer']}" if "layer" in record else str(record["prompt"])
