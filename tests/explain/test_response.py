"""Greedy responses are greedy, whatever the checkpoint's own generation settings say."""

import torch

from shiftbench.explain.response import GreedyResponse
from shiftbench.prompts import Prompt, encode


def by_hand(model, ids, count, end):
    made = []
    for _ in range(count):
        with torch.no_grad():
            token = int(model.module(torch.tensor([[*ids, *made]])).logits[0, -1].argmax())
        if token == end:
            break
        made.append(token)
    return made


def test_it_is_the_argmax_step_by_step(any_model):
    prompt = encode(Prompt("p", "Write a short poem about", ()), any_model.tokenizer)
    any_model.module.generation_config.do_sample = True
    any_model.module.generation_config.repetition_penalty = 5.0
    unit = GreedyResponse(8).work(any_model, [prompt])[0].compute()
    assert unit.arrays["response_R"].tolist() == by_hand(any_model, prompt.prompt_ids, 8, 0)


def test_the_end_of_text_is_not_part_of_the_response(llama):
    prompt = encode(Prompt("p", "Write a short poem about", ()), llama.tokenizer)
    second = by_hand(llama, prompt.prompt_ids, 8, -1)[1]
    llama.module.generation_config.eos_token_id = second
    unit = GreedyResponse(8).work(llama, [prompt])[0].compute()
    assert unit.arrays["response_R"].tolist() == by_hand(llama, prompt.prompt_ids, 8, second)
    assert second not in unit.arrays["response_R"].tolist()


def test_other_stop_tokens_are_another_response(llama):
    prompt = encode(Prompt("p", "Write a short poem about", ()), llama.tokenizer)
    keys = set()
    for ends in (0, [0, 5], None):
        llama.module.generation_config.eos_token_id = ends
        keys.add(GreedyResponse(8).work(llama, [prompt])[0].key)
    assert len(keys) == 2  # without one of its own the tokenizer's end of text, 0, counts
