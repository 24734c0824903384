"""Prompts: texts of which certain characters state the task; their token ids; and the data sets that they come from.

prompt.py     Prompt: a text and its spans
encoding.py   prompts as token ids, and spans as masks over tokens
templates.py  a prompt inside a chat template
spans.py      whether spans begin and end between words
datasets/     the sources of prompts, a file each
special_tokens.py   the special tokens that a tokenizer puts in front of every text
"""

from shiftbench.prompts.encoding import EncodedPrompt, encode, encode_all, token_texts
from shiftbench.prompts.prompt import Prompt, Span
from shiftbench.prompts.templates import in_template

__all__ = ["EncodedPrompt", "Prompt", "Span", "encode", "encode_all", "in_template", "token_texts"]
