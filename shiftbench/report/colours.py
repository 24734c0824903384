"""The report's colours: one meaning each, in light and dark, told apart by readers who do not see all of them."""

from __future__ import annotations

# Name -> (on light paper, on dark paper). Figures are drawn in the light ones; the page maps them to variables of
# the same name, so that one picture serves both. No two names share a light colour: the mapping needs that.
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
}
SERIES = tuple(name for name in COLOURS if name.startswith("series-"))
MODELS = ("base", "tuned")

# Full density is this much of the model's colour over the paper: text stays readable (4.5:1) in both modes.
STRONGEST = 0.65


def light(name: str) -> str:
    """The hex colour of a name on light paper."""
    return COLOURS[name][0]


def token_background(model: str, density: float) -> str:
    """CSS colour of a token of this density (0..1): the model's light colour, more opaque the denser."""
    red, green, blue = (int(light(model)[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{STRONGEST * density:.3f})"


def themed(svg: str) -> str:
    """The same SVG with every palette colour replaced by the page's variable of that name."""
    for name, (on_light, _) in COLOURS.items():
        svg = svg.replace(on_light, f"var(--{name})")
    return svg
