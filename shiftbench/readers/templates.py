"""Chat templates. They are programs that come with a model, so they are rendered in a child process with limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shiftbench.errors import InputError
from shiftbench.readers.limited import limited

if TYPE_CHECKING:  # this room's readers of plain files need no transformers
    from transformers import PreTrainedTokenizerBase

INSTEAD = "use template=none"
# Limit of processor time: SECONDS, and SECONDS_EACH for each prompt. Compiling a template takes some 20 ms, rendering
# one prompt below 1 ms.
SECONDS, SECONDS_EACH = 2.0, 0.02
# Limit of the output for one prompt: TIMES the prompt's own bytes, and OWN_BYTES for the template's own text. The
# longest system prompts in templates have some 20 KB; a quarter of a megabyte exceeds most models' contexts.
TIMES, OWN_BYTES = 4, 256 * 2**10


def chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str | None:
    """The tokenizer's chat template, the default one where it has several; None where it has none.

    name: the model's, for the message. Raises InputError where the template is not a string.
    """
    found: Any = tokenizer.chat_template
    found = found.get("default") if isinstance(found, dict) else found
    if found is not None and not isinstance(found, str):
        raise InputError(f"the chat template of {name}: it is no text but {type(found).__name__}; {INSTEAD}")
    return found


def rendered(contents: Sequence[str], tokenizer: PreTrainedTokenizerBase, template: str, name: str) -> list[str]:
    """Each content inside the template, as one user's message that the assistant is to answer.

    name: the model that the template comes from, for messages. Raises InputError where the template cannot be compiled,
    raises an error, does not end, or makes far more text than its contents.
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
