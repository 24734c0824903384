"""The colours of reports and leaderboards. Each colour has one meaning and a shade for light and for dark pages.

They are chosen to be told apart with the common kinds of colour blindness. Text in any of them but paper, raised and
line has WCAG 2's contrast of 4.5:1 on paper.
"""

from __future__ import annotations

# Name -> (shade on a light page, shade on a dark page). Charts are drawn in the light shades. The page replaces each
# shade by the CSS variable of its name, so one chart fits both modes. This needs light shades that all differ.
COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14171c"),
    "raised": ("#f6f7f9", "#1c2027"),
    "ink": ("#1f2933", "#e6e9ee"),
    "muted": ("#5a6673", "#9ea9b6"),
    "line": ("#dfe3e8", "#323a44"),
    "base": ("#2c68a8", "#7db3ee"),
    "tuned": ("#c2570c", "#f2a15f"),
    "series-1": ("#0b7a75", "#5cc8bf"),
    "series-2": ("#7b4397", "#c79be0"),
    "series-3": ("#8a6a00", "#dcb94a"),
    "series-4": ("#b83b66", "#f08cae"),
    "series-5": ("#4d7a1f", "#a3cf6b"),
    "series-6": ("#67717c", "#b3bcc7"),
    # The words of verdicts. The sign and the word say the same, so no reader needs to tell these colours apart.
    "supported": ("#1a7340", "#6fcf97"),
    "opposite": ("#9c2f8f", "#e59ada"),
    "not-clear": ("#7a5c00", "#d8b84e"),
    "not-trustworthy": ("#b42318", "#ff9b8f"),
}
SERIES = tuple(name for name in COLOURS if name.startswith("series-"))
MODELS = ("base", "tuned")

# Opacity of a token's background at density 1. Text on it stays readable (contrast 4.5:1) in both modes.
MOST_OPAQUE = 0.65


def light_colour(name: str) -> str:
    """The hexadecimal shade of a colour on a light page."""
    return COLOURS[name][0]


def token_background(model: str, density: float) -> str:
    """The CSS colour behind a token: the model's light shade, with an opacity of MOST_OPAQUE times the density.

    model: 'base' or 'tuned'. density: 0 to 1.
    """
    red, green, blue = (int(light_colour(model)[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{MOST_OPAQUE * density:.3f})"


def colour_variables() -> str:
    """CSS that defines a variable for each colour, with its light or dark shade. A printed page has the light ones."""
    light, dark = ("".join(f"--{name}:{shades[i]};" for name, shades in COLOURS.items()) for i in (0, 1))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def with_css_variables(svg: str) -> str:
    """The SVG with every light shade replaced by the CSS variable of its colour."""
    for name, (shade, _) in COLOURS.items():
        svg = svg.replace(shade, f"var(--{name})")
    return svg
