"""Times a whole pair (responses, attribution, word pairs and concepts of two models) beside the paper's pipeline."""

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
from shiftbench.perf.agreement import Agreement
from shiftbench.perf.cases import Case
from shiftbench.perf.timing import Sampled
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
from tests.perf.benchmark_rounds import alternate
from tests.perf.models import SEED, packaged, smollm
from tests.perf.paper_knowledge import Heads, of_head, sampled_heads
from tests.perf.rows import ratio_rows
from tests.perf.targets import PAIR

pytestmark = pytest.mark.perf
PIPELINE = "paper's pipeline"
PROMPTS, NEW_TOKENS = 20, 64
NOISE = 0.02  # standard deviation of the noise on a tensor, relative to that of the tensor
# The part of each stage that the pipeline computes. It uses all prompts, because a few long ones take most of the time.
SAMPLE = {"tokens": 2, "heads": 6, "layers": 2}


@dataclass
class Side:
    """What the pipeline computed for one model. responses, importance: by prompt. seconds: by stage."""

    responses: dict[str, list[int]] = field(default_factory=dict)
    importance: dict[str, tuple[list[int], Tensor]] = field(default_factory=dict)
    heads: Heads = field(default_factory=dict)
    concepts: dict[int, Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def test_whole_pair(benchmark: Any, record: Callable[..., None], folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Ours and the pipeline explain each model's own responses with the same vocabulary. The store is empty."""
    planned = build(
        composition.compose(
            "config",
            [
                "pair=local", f"pair.base={folders[0]}", f"pair.tuned={folders[1]}", "tracking=none", "device=cpu",
                f"dataset.limit={PROMPTS}", f"response.max_new_tokens={NEW_TOKENS}",
                "response.mode=own", "response.beside=null", f"store.path={tmp_path / 'store'}",
                "~findings.attribution_faithfulness",  # the paper has no such check
            ],
        )
    )  # fmt: skip
    check(planned)
    attention._cooccurrence.cache_clear()  # base and tuned may share its result, but no earlier result may be used
    compared = alternate(
        benchmark,
        lambda planned: explain_and_score(planned, Progress()),
        {PIPELINE: lambda planned: pipeline(planned, folders)},
        [planned],
    )
    sides: Mapping[str, Side] = compared.peers[PIPELINE].result
    stages = {name: sum(side.seconds[name] for side in sides.values()) for name in next(iter(sides.values())).seconds}
    note = f"{NEW_TOKENS} new tokens, own responses; the pipeline: "
    note += ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items())
    agreements = {PIPELINE: agreement(compared.ours.result, planned, sides)}
    record(*ratio_rows("whole pair", PAIR, compared, agreements, {PIPELINE: note}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of SmolLM2, and of SmolLM2 with random noise on every weight, so that the two share no tensor."""
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
    """A module with the same weights and without the quantisation entry of a GGUF file.

    transformers refuses to save a module that has this entry.
    """
    config = copy.deepcopy(module.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(module)(config).eval()
    plain.load_state_dict(module.state_dict())
    return plain


def pipeline(planned: Job, folders: Sequence[Path]) -> Sampled:
    """The paper's pipeline for both models. Each stage runs on a sample, and its seconds are extrapolated."""
    sides = {}
    for name, folder in zip(("base", "tuned"), folders, strict=True):
        begin = time.perf_counter()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        side = Side(seconds={"loading": time.perf_counter() - begin})
        model = Model(name, module, tokenizer, None, "float32")
        local(model, planned, side)
        heads(model, planned, side)
        concepts(model, planned, side)
        sides[name] = side
    part = "extrapolated from {tokens} tokens of each response, {heads} heads, {layers} layers a model"
    return Sampled(sides, sum(sum(side.seconds.values()) for side in sides.values()), part.format(**SAMPLE))


def local(model: Model, planned: Job, side: Side) -> None:
    """Add greedy responses and the importance of their tokens, by the loop, to `side`."""
    side.seconds |= {"responses": 0.0, "loop": 0.0}
    for prompt in planned.prompts:
        encoded = encode(prompt, model.tokenizer)
        begin = time.perf_counter()
        response = greedy(model.module, encoded.prefix_ids + encoded.prompt_ids)
        side.seconds["responses"] += time.perf_counter() - begin
        name = str(list(encoded.prompt_ids))  # the name of the prompt in the record of a stored unit
        side.responses[name] = response
        if not response:
            continue
        begin = time.perf_counter()
        found = paper.loop(model.module, Case(encoded, tuple(response), ("", "")), tokens=SAMPLE["tokens"])
        if not isinstance(found, Sampled):  # the response is so short that all its tokens were computed
            found = Sampled(found, time.perf_counter() - begin, "")
        side.seconds["loop"] += found.seconds
        side.importance[name] = paper.evenly_spread(len(response), SAMPLE["tokens"]), found.result


def greedy(module: PreTrainedModel, ids: tuple[int, ...]) -> list[int]:
    """Token ids of the greedy continuation, without the end-of-text token."""
    given = torch.tensor([ids])
    with torch.no_grad():
        generated = module.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=NEW_TOKENS
        )[0, len(ids) :].tolist()
    ends = module.generation_config.eos_token_id
    return generated[:-1] if generated and generated[-1] in (ends if isinstance(ends, list) else [ends]) else generated


def heads(model: Model, planned: Job, side: Side) -> None:
    """Add the word pairs of sampled heads to `side`."""
    assert planned.vectors is not None
    found = sampled_heads(model, planned.vocabulary, planned.vectors, SAMPLE["heads"], keep=True)
    side.heads, side.seconds["word pairs"] = found.result, found.seconds


def concepts(model: Model, planned: Job, side: Side) -> None:
    """Add the components of sampled layers to `side`.

    The annotator names the components' concepts. This is part of our time and not of the pipeline's.
    """
    method, views = packaged("feedforward"), model.views
    begin = time.perf_counter()
    embedding_VD = word_embeddings(views.embedding_out_VD(), model.tokenizer, planned.vocabulary.words)
    unit_VD = torch.nn.functional.normalize(embedding_VD, dim=1)
    shared = time.perf_counter() - begin
    chosen = paper.evenly_spread(views.layers, SAMPLE["layers"])
    begin = time.perf_counter()
    for layer in chosen:
        down_FD = views.down_FD(layer)
        side.concepts[layer], _ = paper_knowledge.component_words(down_FD, unit_VD, method.rank, method.top)
    side.seconds["components"] = shared + (time.perf_counter() - begin) * views.layers / len(chosen)


def agreement(outcome: Outcome, planned: Job, sides: Mapping[str, Side]) -> Agreement:
    """How far the units in our store agree with the pipeline's results, by stage."""
    same = {"responses": [0, 0], "levels": [0, 0], "head pairs": [0, 0], "components": [0, 0]}
    for model, side in zip(outcome.models, sides.values(), strict=True):
        units = stored(planned.store, model.weights_digest)
        for prompt, response in side.responses.items():
            _count(same["responses"], units["greedy_response", prompt].arrays["response_R"].tolist() == response, 1)
        for prompt, (places, importance_PR) in side.importance.items():
            level_PR = units["attribution", prompt].arrays["level_PR"][:, places]
            theirs_PR = ops.importance_levels(importance_PR, packaged("attribution").levels)
            _count(same["levels"], int((level_PR == theirs_PR).sum()), theirs_PR.numel())
        for (layer, head), (pairs, _) in side.heads.items():
            our_pairs, _ = of_head(units["word_pairs", f"layer {layer}"], head)
            _count(same["head pairs"], pairs - abs(our_pairs - pairs), pairs)
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
    """The stored units of one model by (method, prompt or layer). weights: digest of the model's weights."""
    found = {}
    for entry in store.entries():
        if entry.record.get("weights") == weights:
            unit = store.get(entry.key)
            assert unit is not None
            found[str(entry.record["method"]), _named(entry.record)] = unit
    return found


def _named(record: Mapping[str, Any]) -> str:
    return f"layer {record['layer']}" if "layer" in record else str(record["prompt"])
