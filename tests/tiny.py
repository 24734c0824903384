"""Tiny random models of every supported architecture, and a tokenizer trained in memory; nothing is downloaded."""

from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 400
END_OF_TEXT = "<|endoftext|>"
SENTENCES = [
    "Write a short poem about the sea, the sky and the stars.",
    "Translate the sentence to French. Input: good morning to all people. Output:",
    "Explain why the answer is a number and list the letters of the name.",
    "The story of the day: a question, an answer, a book of code and words to make and to write.",
]
_SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256)
_GROUPED = dict(_SHAPE, num_key_value_heads=2, intermediate_size=64)
_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": dict(_GROUPED, head_dim=None),
    "qwen2": _GROUPED,
    "qwen3": dict(_GROUPED, head_dim=16),
    "gemma2": dict(_GROUPED, head_dim=16, query_pre_attn_scalar=16, sliding_window=64),
    "olmo2": _GROUPED,
    "gpt2": dict(n_embd=32, n_layer=2, n_head=4, n_positions=256),
}
ARCHITECTURES = tuple(_CONFIGS)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most VOCABULARY tokens: no token in front, END_OF_TEXT is id 0, no template."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES, VOCABULARY, min_frequency=1, special_tokens=[END_OF_TEXT], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT)


def tiny_module(architecture: str, seed: int = 0, **change: Any) -> PreTrainedModel:
    """A random model, float32, eager attention, eval mode; `change` goes to its configuration.

    Two layers, 32 wide, four heads (two key heads where the architecture groups them), VOCABULARY rows, 256 positions.
    Gains and biases are random too, so that one left out shows.
    """
    fixed = dict(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=0, pad_token_id=0, initializer_range=0.2)
    config = AutoConfig.for_model(architecture, **{**fixed, **_CONFIGS[architecture], **change})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()
