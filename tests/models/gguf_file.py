"""A tiny Llama as a GGUF file, written by the gguf package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter

from tests.tiny import VOCABULARY, tiny_module, tiny_tokenizer

_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_INNER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(file: Path, change: Any = lambda writer: None, **metadata: int) -> Path:
    """Write the tiny Llama. metadata: replaces its counts, such as block_count. change: may add to the open writer."""
    counts = dict(block_count=2, context_length=256, embedding_length=32, feed_forward_length=64, vocab_size=VOCABULARY)
    counts |= {"attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 8} | metadata
    writer = GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    for name, count in counts.items():
        writer.add_uint32(f"llama.{name}", count)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    _add_tokenizer(writer)
    for name, weight in tiny_module("llama").named_parameters():
        writer.add_tensor(f"{_gguf_name(name.removesuffix('.weight'))}.weight", weight.detach().numpy())
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def one_more(name: str, size: int = 4, dtype: Any = np.float32) -> Any:
    """A `change` that adds a tensor of ones."""
    return lambda writer: writer.add_tensor(name, np.ones(size, dtype))


def _add_tokenizer(writer: GGUFWriter) -> None:
    parts = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    tokens += [f"<unused {i}>" for i in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges([" ".join(merge) for merge in parts["merges"]])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)


def _gguf_name(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    _, _, layer, inner = name.split(".", 3)
    return f"blk.{layer}.{_INNER[inner]}"
