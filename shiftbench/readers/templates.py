"""Chat templates: programs that come with a model, rendered in a child process under limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shiftbench.errors import InputError
from shiftbench.readers.limited import limited

if TYPE_CHECKING:  # this room's readers of plain files need no transformers
    from transformers import PreTrainedTokenizerBase

INSTEAD = "use template=none"
# Of processor time for all prompts together: compiling a template takes some 20 ms, rendering one prompt below 1 ms.
SECONDS, SECONDS_EACH = 2.0, 0.02
# What a template may make of one prompt: the prompt's own bytes a few times over, and words of its own. The longest
# system prompts that templates bring along have some 20 KB; a quarter of a megabyte exceeds most models' contexts.
TIMES, OWN_BYTES = 4, 256 * 2**10


def chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str | None:
    """The tokenizer's chat template, the default one where it has several; None where it has none.

    name: the model's, for the message. Raises InputError where what stands there is no text.
    """
    found: Any = tokenizer.chat_template
    found = found.get("default") if isinstance(found, dict) else found
    if found is not None and not isinstance(found, str):
        raise InputError(f"the chat template of {name}: it is no text but {type(found).__name__}; {INSTEAD}")
    return found


def rendered(contents: Sequence[str], tokenizer: PreTrainedTokenizerBase, template: str, name: str) -> list[str]:
    """Each content inside the template, as one user's message that the assistant is to answer.

    name: of the model that the template comes from. Raises InputError where the template cannot be compiled, raises,
    does not end, or makes far more than its contents.
    """

    def make() -> Iterator[str]:
        for content in contents:
            message = [{"role": "user", "content": content}]
            made = tokenizer.apply_chat_template(
                message, chat_template=template, tokenize=False, add_generation_prompt=True
            )
            yield str(made)

    given = sum(len(content.encode("utf-8", "surrogatepass")) for content in contents)
    return limited(
        make,
        f"the chat template of {name}",
        INSTEAD,
        SECONDS + SECONDS_EACH * len(contents),
        TIMES * given + OWN_BYTES * len(contents),
    )
