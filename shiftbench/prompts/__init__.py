"""Prompts: texts with the characters that state their task, as token ids, and the sets they come from.

prompt.py     Prompt: a text and its spans
encoding.py   token ids, and spans as masks over tokens
templates.py  a prompt inside a chat template
spans.py      whether spans begin and end between words
datasets/     one file a source of prompts
"""

from shiftbench.prompts.encoding import EncodedPrompt, encode, encode_all, token_texts
from shiftbench.prompts.prompt import Prompt, Span
from shiftbench.prompts.templates import in_template

__all__ = ["EncodedPrompt", "Prompt", "Span", "encode", "encode_all", "in_template", "token_texts"]
