"""Tokens of a prompt as HTML, each on a background that is more opaque the larger its importance density is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from shiftbench.errors import InputError
from shiftbench.report.colours import token_background
from shiftbench.report.text import NEWLINE, SPACE, TAB, visible, visible_token

_TOKEN = Markup('<span style="background-color:{colour};{style}" title="{tooltip}">{text}</span>')
_FAINT = Markup('<span style="opacity:.35">{}</span>')
_UNDERLINE = "border-bottom:2px solid currentColor;"
# Each token has its own writing direction, so a right-to-left token cannot reorder its neighbours.
_TOKEN_STYLE = "unicode-bidi:isolate;border-radius:2px;padding:1px 0;"
_BLOCK_STYLE = "line-height:1.9;overflow-wrap:anywhere;margin:0;"


def attribution_html(
    tokens: Sequence[str],
    instruction: Sequence[bool] | None,
    density: Sequence[float],
    model: str = "tuned",
    caption: str = "",
) -> str:
    """An HTML fragment (a figure element) of the prompt's tokens, on backgrounds whose opacity follows the density.

    tokens, instruction, density: one entry for each prompt token. instruction: whether the token is part of the
    instruction; such tokens are underlined. None: no token is underlined. density: the importance density of the token.
    For the opacity it is clipped to 0..1; the tooltip shows it as it is. NaN gives no background. model: 'base' or
    'tuned', for the colour. caption: a text below the tokens; '' for none.
    The fragment needs no style sheet and no script, and every token in it is escaped.
    Raises InputError where tokens, instruction and density have different lengths.
    """
    if instruction is None:
        instruction = [False] * len(tokens)
    if not len(tokens) == len(instruction) == len(density):
        raise InputError(
            f"attribution_html: tokens, instruction and density must have one entry per prompt token, "
            f"got {len(tokens)}, {len(instruction)} and {len(density)}"
        )
    spans = Markup("").join(_token_html(*each, model) for each in zip(tokens, instruction, density, strict=True))
    below = (
        Markup('<figcaption style="opacity:.8;font-size:.9em">{}</figcaption>').format(visible(caption))
        if caption
        else ""
    )
    block = Markup('<div dir="auto" style="{}">{}</div>').format(_BLOCK_STYLE, spans or "The prompt has no token.")
    return str(
        Markup('<figure style="margin:0" aria-label="{}">{}{}</figure>').format(_aria_label(model), block, below)
    )


def _aria_label(model: str) -> str:
    """The text by which a screen reader names the fragment."""
    return f"prompt tokens with importance density in the {model} model; instruction tokens are underlined"


def _token_html(token: str, instruction: bool, density: float, model: str) -> Markup:
    """The HTML of one token of `attribution_html`, with its density as the tooltip.

    A token that ends in a line feed is followed by a line break.
    """
    known = not math.isnan(density)
    opacity = min(max(float(density), 0.0), 1.0) if known else 0.0
    tooltip = (f"density {density:.2f}" if known else "density n/a") + (", instruction" if instruction else "")
    return (
        _break_before(token)
        + _TOKEN.format(
            colour=token_background(model, opacity),
            style=_TOKEN_STYLE + (_UNDERLINE if instruction else ""),
            tooltip=tooltip,
            text=_with_faint_marks(visible_token(token)),
        )
        + Markup("<br>" if token.endswith("\n") else "")
    )


def _break_before(token: str) -> Markup:
    """A place where the line may break, before a token that begins with a space.

    The browser sees '·' in place of the space and would not break the line there.
    """
    return Markup("<wbr>") if token.startswith(" ") else Markup("")


def _with_faint_marks(shown: str) -> Markup:
    """The token's text with the marks of white space (·, ↵, ⇥) fainter than the rest."""
    parts = Markup("")
    for character in shown:
        parts += _FAINT.format(character) if character in (SPACE, NEWLINE, TAB) else Markup.escape(character)
    return parts
