"""Greedy responses are greedy, whatever the checkpoint's own generation settings say."""

import torch

from shiftbench.explain.response import GreedyResponse
from shiftbench.models import wrap
from shiftbench.prompts import Prompt, encode
from shiftbench.store.work import compute_all
from tests.tiny import tiny_module, tiny_tokenizer


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


def made_together(model, texts, count):
    prompts = [encode(Prompt(f"p{i}", text, ()), model.tokenizer) for i, text in enumerate(texts)]
    work = GreedyResponse(count).work(model, prompts)
    return [unit.arrays["response_R"].tolist() for _, unit in sorted(compute_all(work), key=lambda made: made[0])], work


TEXTS = ["Write a short poem about", "Translate", "Explain why the answer is a number and list", "the sea"]


def test_many_at_a_time_are_what_each_is_alone(any_model):
    found, work = made_together(any_model, TEXTS, 10)
    assert work[0].batch is not None
    assert found == [item.compute().arrays["response_R"].tolist() for item in work]


def test_angles_that_follow_the_texts_length_are_left_to_transformers():
    module = tiny_module("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    with wrap(module, tiny_tokenizer()) as model:
        found, work = made_together(model, TEXTS, 4)
        assert work[0].batch is None and [len(tokens) for tokens in found] == [4] * len(TEXTS)


def test_decoding_leaves_torchs_threads_as_they_were(llama):
    before = torch.get_num_threads()
    _, work = made_together(llama, TEXTS, 2)
    for _ in compute_all(work):
        assert torch.get_num_threads() == before
