"""Two untrained networks show no instruction tuning, whatever their scores and intervals are.

A two-layer network with random weights against itself with noise in the weights once got 'uses the words of the
instruction more', +0.46 [+0.28, +0.66], although nothing was compared and both models' attributions were no better than
random.
"""

import pytest
import torch

import shiftbench
from tests.tiny import tiny_module, tiny_tokenizer

pytestmark = pytest.mark.whole
PROMPTS = [
    {"prompt": f"Write a {kind}.\n\nInput: the sea {kind}", "instruction": [[0, len(f"Write a {kind}.")]]}
    for kind in "poem song list note joke tale plan rule game name sign line".split()
]


def pair(seed):
    base, tuned = tiny_module("llama", seed), tiny_module("llama", seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
    return (base, tiny_tokenizer()), (tuned, tiny_tokenizer())


@pytest.mark.parametrize(("prompts", "control", "seed"), [(4, "none", 0), (12, "weights", 1)])
def test_no_claim_about_untrained_networks_is_supported(prompts, control, seed, tmp_path):
    scores = shiftbench.score(
        *pair(seed),
        PROMPTS[:prompts],
        response__max_new_tokens=6,
        vocabulary__size=400,
        vectors="model",
        bootstrap__resamples=500,
        store__path=str(tmp_path),
        control=control,
    )
    words = {key: verdict.word.value for key, verdict in scores.verdicts.items()}
    assert set(words) >= {"instruction_recognition", "instruction_verbs", "concept_rotation"}
    assert not {"supported", "opposite"} & set(words.values())
