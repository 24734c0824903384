"""The targets of the benchmark, by the key of the row they apply to: (hot spot, case, against)."""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """at_least: the value that a row must reach. aim: the value we hope for; below at_least where less is better."""

    at_least: float
    aim: float

    def is_reached(self, value: float) -> bool:
        """Whether the value is at least as good as `at_least`."""
        return value <= self.at_least if self.aim < self.at_least else value >= self.at_least


LOOP = "paper's loop"
SHARE = "share of GEMM peak"
MEMORY = "peak memory over the model"
FLOAT64 = "error against float64 autograd"
SMOL = "SmolLM2-135M"


def lengths(model: str, prompt: int, response: int) -> str:
    """The name of a case of attribution in the table. prompt, response: numbers of tokens."""
    return f"{model}, P {prompt}, R {response}"


LENGTHS = ((32, 60), (32, 150), (100, 60), (100, 150))
DRAWN = f"{SMOL}, 20 drawn lengths"
TOPK_LARGE = "V 32,000, D 4,096, C 1,024, k 100"
TOPK_SMALL = "V 26,000, D 576, C 576, k 100"
HEADS = f"{SMOL}, all heads"
LAYER = f"{SMOL}, 6 layers' down-projections"
WIDE = "Llama 7B shape, 2 layers"
WIDE_LAYER = "7B layer's down-projection"
PAIR = f"{SMOL} pair, 20 prompts"

# Names of the rows that gpu.py measures. There a case of attribution has the precision of the derivatives in its name.
SEVEN = "Llama 7B shape"
GPU_LENGTHS = ((100, 150), (32, 60))
GPU_TOPK = "V 32,000, D 4,096, C 4,096, k 100"
BARE, BARE_TF32 = "bare product", "bare product in TF32"
GEMM_RATE = "share of GEMM rate"
ALL_LAYERS = "all layers"
END_TO_END = "pair, 100 prompts"


def in_precision(model: str, precision: str) -> str:
    """The name of a model in a case of attribution on a GPU."""
    return f"{model}, {precision}"


TARGETS: dict[tuple[str, str, str], Target] = {
    ("attribution", lengths(SMOL, 32, 60), LOOP): Target(7, 10),
    ("attribution", lengths(SMOL, 32, 150), LOOP): Target(12, 16),
    ("attribution", lengths(SMOL, 100, 150), LOOP): Target(5, 6.5),
    ("attribution", lengths(SMOL, 100, 60), LOOP): Target(3.5, 4.5),
    ("attribution", DRAWN, LOOP): Target(10, 18),
    **{
        ("attribution", lengths(SMOL, 32, response), peer): target
        for response, target in ((60, Target(5, 7.5)), (150, Target(10, 15)))
        for peer in ("inseq", "captum")
    },
    **{("attribution", lengths(SMOL, *pair), SHARE): Target(65, 80) for pair in LENGTHS},
    **{("attribution", lengths(SMOL, *pair), FLOAT64): Target(1e-4, 1e-5) for pair in LENGTHS},
    ("attribution", lengths(SMOL, 100, 150), MEMORY): Target(700, 350),
    ("vocab_topk", TOPK_LARGE, "bare product"): Target(1.0, 1.15),
    ("vocab_topk", TOPK_SMALL, "bare product"): Target(1.0, 1.15),
    ("vocab_topk", TOPK_LARGE, "working memory"): Target(32, 8),
    ("word pairs", HEADS, "paper's procedure"): Target(100, 500),
    ("components", LAYER, "torch svd"): Target(2, 3),
    ("components", WIDE_LAYER, "torch svd"): Target(2, 3),
    ("whole pair", PAIR, "paper's pipeline"): Target(8, 15),
    ("attribution", lengths(in_precision(SEVEN, "bfloat16"), 100, 150), LOOP): Target(40, 50),
    ("attribution", lengths(in_precision(SEVEN, "tf32"), 100, 150), LOOP): Target(20, 25),
    ("attribution", lengths(in_precision(SEVEN, "bfloat16"), 100, 150), GEMM_RATE): Target(60, 75),
    ("vocab_topk", GPU_TOPK, BARE): Target(0.8, 1.0),  # that is, at most 1.25 times the product's time
    ("vocab_topk", GPU_TOPK, BARE_TF32): Target(0.8, 1.0),
    ("word pairs", SEVEN, ALL_LAYERS): Target(20, 10),  # seconds
    ("whole pair", f"{SEVEN} {END_TO_END}", "estimate"): Target(15, 10),  # minutes
}
