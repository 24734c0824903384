"""Tokens on a background as strong as their density: in the report and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from shiftbench.errors import InputError
from shiftbench.report.colours import token_background
from shiftbench.report.text import NEWLINE, SPACE, TAB, visible, visible_token

_TOKEN = Markup('<span style="background-color:{colour};{style}" title="{about}">{shown}</span>')
_FAINT = Markup('<span style="opacity:.35">{}</span>')
_UNDERLINE = "border-bottom:2px solid currentColor;"
# Every token is its own direction: a right-to-left one cannot reorder its neighbours.
_EACH = "unicode-bidi:isolate;border-radius:2px;padding:1px 0;"
_BLOCK = "line-height:1.9;overflow-wrap:anywhere;margin:0;"


def attribution_html(
    tokens: Sequence[str],
    instruction: Sequence[bool] | None,
    density: Sequence[float],
    model: str = "tuned",
    caption: str = "",
) -> str:
    """HTML fragment of the prompt's tokens, each on a background as strong as its importance density.

    tokens, instruction, density: one entry per prompt token; instruction is None where no span is known.
    model: 'base' or 'tuned', whose colour is used. It needs no style sheet or script, and every token is escaped.
    Raises InputError where the lengths differ.
    """
    if instruction is None:
        instruction = [False] * len(tokens)
    if not len(tokens) == len(instruction) == len(density):
        raise InputError(
            f"attribution_html: tokens, instruction and density must have one entry per prompt token, "
            f"got {len(tokens)}, {len(instruction)} and {len(density)}"
        )
    shown = Markup("").join(_token(*each, model) for each in zip(tokens, instruction, density, strict=True))
    under = (
        Markup('<figcaption style="opacity:.8;font-size:.9em">{}</figcaption>').format(visible(caption))
        if caption
        else ""
    )
    block = Markup('<div dir="auto" style="{}">{}</div>').format(_BLOCK, shown or "nothing to show: no token")
    return str(Markup('<figure style="margin:0" aria-label="{}">{}{}</figure>').format(_about(model), block, under))


def _about(model: str) -> str:
    return f"prompt tokens with importance density in the {model} model; instruction tokens are underlined"


def _token(token: str, instruction: bool, density: float, model: str) -> Markup:
    known = not math.isnan(density)
    strength = min(max(float(density), 0.0), 1.0) if known else 0.0
    return (
        _before(token)
        + _TOKEN.format(
            colour=token_background(model, strength),
            style=_EACH + (_UNDERLINE if instruction else ""),
            about=f"density {density:.2f}" * known + "density n/a" * (not known) + ", instruction" * bool(instruction),
            shown=_faint_marks(visible_token(token)),
        )
        + Markup("<br>" if token.endswith("\n") else "")
    )


def _before(token: str) -> Markup:
    """Where a line may break: the shown spaces are no spaces to the browser."""
    return Markup("<wbr>") if token.startswith(" ") else Markup("")


def _faint_marks(shown: str) -> Markup:
    """The marks of white space are fainter than the text they part."""
    parts = Markup("")
    for character in shown:
        parts += _FAINT.format(character) if character in (SPACE, NEWLINE, TAB) else Markup.escape(character)
    return parts
