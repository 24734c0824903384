"""The model whose tokenizer the responses go through."""

from tests.explain.conftest import llama

__all__ = ["llama"]
