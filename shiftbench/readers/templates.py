"""Chat templates. They are programs that come with a model, so they are rendered in a child process with limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shiftbench.errors import InputError
from shiftbench.readers.limited import limited

if TYPE_CHECKING:  # this room's readers of plain files need no transformers
    from transformers import PreTrainedTokenizerBase

INSTEAD = "use template=none"
# Limit of processor time: SECONDS, plus SECONDS_EACH for each prompt. Compiling a template takes some 20 ms, rendering
# one prompt below 1 ms.
SECONDS, SECONDS_EACH = 2.0, 0.02
# Limit of the texts that all prompts are rendered to, together, in bytes: TIMES the bytes of the prompts, plus
# OWN_BYTES for each prompt, for the template's own text. The longest system prompts in templates have some 20 KB.
TIMES, OWN_BYTES = 4, 256 * 2**10


def chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str | None:
    """The tokenizer's chat template; None where it has none.

    Where the tokenizer has several, it is the one named "default", and None where none has that name. name: the name of
    the model, for the message. Raises InputError where the template is not a string.
    """
    found: Any = tokenizer.chat_template
    found = found.get("default") if isinstance(found, dict) else found
    if found is not None and not isinstance(found, str):
        raise InputError(f"the chat template of {name}: it is no text but {type(found).__name__}; {INSTEAD}")
    return found


def rendered(contents: Sequence[str], tokenizer: PreTrainedTokenizerBase, template: str, name: str) -> list[str]:
    """The text that the template makes of each content, in the order of `contents`.

    Each content is the only message of a conversation, the user's, and the template is asked to end the text where the
    assistant's answer is to begin. name: the name of the model that the template comes from, for messages. Raises
    InputError where the template cannot be compiled or raises an error, and where rendering takes too long or too much
    memory, or makes far more text than the contents have.
    """

    def make() -> Iterator[str]:
        for content in contents:
            message = [{"role": "user", "content": content}]
            text = tokenizer.apply_chat_template(
                message, chat_template=template, tokenize=False, add_generation_prompt=True
            )
            yield str(text)

    given = sum(len(content.encode("utf-8", "surrogatepass")) for content in contents)
    return limited(
        make,
        f"the chat template of {name}",
        INSTEAD,
        SECONDS + SECONDS_EACH * len(contents),
        TIMES * given + OWN_BYTES * len(contents),
    )
