"""The fixture of the model whose tokenizer decodes the responses."""

from tests.explain.conftest import llama

__all__ = ["llama"]
