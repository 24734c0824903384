"""Charts: their content follows from the data, each colour has one meaning, and text on every colour is readable."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest

from shiftbench.contracts.result import Figure, Score
from shiftbench.report.colours import COLOURS, MOST_OPAQUE, light_colour, with_css_variables
from shiftbench.report.figures import description, figure_svg, is_wide, rows_to_draw, shared_limits
from shiftbench.report.heat_maps import NO_DATA
from shiftbench.report.intervals import WIDTH, interval_svg


def figure(kind: str, names: list[str], xs: list[object], **options: object) -> Figure:
    table = pd.DataFrame(
        [(x, name, i + j) for i, name in enumerate(names) for j, x in enumerate(xs)], columns=list("xsy")
    )
    return Figure("f", "Title", kind, table, "x", "y", "s", **options)  # type: ignore[arg-type]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """WCAG 2 contrast ratio of two sRGB colours in 0..1."""
    light_1, light_2 = sorted((luminance(first), luminance(second)))
    return (light_2 + 0.05) / (light_1 + 0.05)


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_base_and_tuned_have_their_own_colours_and_base_is_dashed() -> None:
    svg = figure_svg(figure("line", ["tuned", "base"], [0, 1, 2], dashed=("base",)))
    dashed = re.findall(r"stroke-dasharray[^\"]*?stroke: (#\w+)|stroke: (#\w+)[^\"]*stroke-dasharray", svg)
    assert {colour for pair in dashed for colour in pair if colour} == {light_colour("base")}
    assert light_colour("tuned") in svg
    assert texts(svg)[-2:] == ["base", "tuned"]


def test_a_subject_has_one_colour_for_both_models() -> None:
    svg = figure_svg(
        figure("line", ["syntax, base", "syntax, tuned", "morphology, base"], [0, 1], dashed=("syntax, base",))
    )
    assert {"syntax", "morphology", "base", "tuned"} <= set(texts(svg))
    used = {name for name, (colour, _) in COLOURS.items() if f"stroke: {colour}" in svg and name.startswith("series")}
    assert used == {"series-1", "series-2"}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["line", "bar"])
def test_many_series_get_a_panel_each_that_names_it(kind: str) -> None:
    names = [f"verb {i}" for i in range(38)]
    picture = figure(kind, names, [1, 2, 3])
    assert is_wide(picture)
    assert set(names) <= set(texts(figure_svg(picture)))


def test_bars_of_many_groups_name_every_group() -> None:
    groups: list[object] = [f"group {i}" for i in range(38)]
    assert set(groups) <= set(texts(figure_svg(figure("bar", ["a"], groups))))


@pytest.mark.parametrize("groups", [["a", "b"], [f"group {i}" for i in range(38)]], ids=["vertical", "horizontal"])
def test_bars_of_series_with_numbers_as_names_are_drawn(groups: list[object]) -> None:
    table = pd.DataFrame([(x, number, 1.0) for x in groups for number in (1, 2)], columns=list("xsy"))
    named = table.assign(s=table["s"].astype(str))
    drawn, wanted = (figure_svg(Figure("f", "Title", "bar", rows, "x", "y", "s")) for rows in (table, named))
    assert drawn == wanted


@pytest.mark.parametrize(("change", "colour", "other"), [(1.0, "tuned", "base"), (-1.0, "base", "tuned")])
def test_a_cell_of_a_diverging_map_has_the_colour_of_its_sign(change: float, colour: str, other: str) -> None:
    table = pd.DataFrame({"x": [0, 1], "s": [0, 0], "y": [change, 0.0]})
    svg = figure_svg(Figure("f", "", "heat", table, "x", "y", "s", diverging=True))
    cells = re.findall(r"fill: (none|#\w+; fill-opacity: [\d.]+); stroke: " + light_colour("line"), svg)
    assert cells == [f"{light_colour(colour)}; fill-opacity: 0.92", "none"]
    assert f"{light_colour(other)}; fill-opacity: 0.92; stroke" not in svg


@pytest.mark.parametrize("diverging", [True, False])
def test_a_cell_without_data_is_hatched_and_one_of_the_lowest_value_is_not(diverging: bool) -> None:
    table = pd.DataFrame({"x": [0, 1, 0, 1], "s": [0, 0, 1, 1], "y": [0.0, 1.0, 0.5, 0.25]})

    def drawn(rows: pd.DataFrame) -> tuple[Figure, str]:
        picture = Figure("f", "Title", "heat", rows, "x", "y", "s", diverging=diverging)
        return picture, figure_svg(picture)

    hatched = re.compile(r'<path d="([^"]+)"[^>]*fill: none; stroke: ' + light_colour("muted"))
    whole, svg = drawn(table)
    assert NO_DATA not in texts(svg) and not hatched.findall(svg) and "no data" not in description(whole)
    for gap in (table.drop(index=3), table.replace({"y": {0.25: np.nan}})):
        part, svg = drawn(gap)
        assert NO_DATA in texts(svg)
        (lines,) = hatched.findall(svg)
        assert lines.count("M") == 3
        assert description(part).endswith("1 of 4 cells have no data.")


@pytest.mark.parametrize("kind", ["line", "bar", "heat"])
@pytest.mark.parametrize("values", [[np.nan, np.nan], [np.inf, np.nan], []], ids=["nan", "inf", "none"])
def test_a_figure_without_a_finite_number_is_not_drawn(kind: str, values: list[float]) -> None:
    table = pd.DataFrame({"x": range(len(values)), "s": ["a"] * len(values), "y": pd.Series(values, dtype=float)})
    assert figure_svg(Figure("f", "", kind, table, "x", "y", "s")) == ""


@pytest.mark.parametrize("kind", ["line", "bar", "heat"])
@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, np.nan], [3.0]], ids=["zeros", "hole", "one"])
def test_equal_missing_and_single_values_are_drawn(kind: str, values: list[float]) -> None:
    table = pd.DataFrame({"x": range(len(values)), "s": "a", "y": values, "low": np.nan, "high": np.inf})
    for diverging in (False, True):
        ET.fromstring(figure_svg(Figure("f", "", kind, table, "x", "y", "s", "low", "high", diverging=diverging)))


@pytest.mark.parametrize("column", ["x", "s"])
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=repr)
def test_a_row_whose_text_is_missing_is_left_out(column: str, missing: object) -> None:
    table = pd.DataFrame({"x": ["one", "two"], "s": ["a", "b"], "y": [1.0, 2.0]}).astype({"x": object, "s": object})
    picture = Figure("f", "", "bar", table, "x", "y", "s")
    assert len(rows_to_draw(picture)) == 2
    table.loc[1, column] = missing
    rows = rows_to_draw(picture)
    assert rows["x"].tolist() == ["one"] and rows["s"].tolist() == ["a"]
    assert not {"None", "nan", "<NA>"} & set(texts(figure_svg(picture)))


def test_figures_of_zeros_have_a_scale() -> None:
    zeros = pd.DataFrame({"x": [0, 1], "s": "a", "y": 0.0})
    pair = [Figure(name, "", kind, zeros, "x", "y", "s") for name, kind in (("one", "line"), ("two", "bar"))]
    for one, limits in zip(pair, shared_limits(pair), strict=True):
        assert limits is not None and limits[0] < limits[1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ET.fromstring(figure_svg(one, limits))


def test_a_chart_on_a_page_has_colours_of_the_page_only() -> None:
    picture = figure("bar", ["base", "tuned", "other"], ["1", "2"], dashed=("base",))
    assert not re.search(r"#[0-9a-f]{6}", with_css_variables(figure_svg(picture)))


def test_a_description_names_the_series_and_their_means() -> None:
    text = description(figure("line", ["base", "tuned"], [0, 1], x_label="layer", y_label="degrees"))
    assert (
        text == "Line chart. Title. Horizontal axis, layer; vertical axis, degrees. "
        "Mean of each series: base 0.500, tuned 1.500."
    )


@pytest.mark.parametrize("shade", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast_on_every_background(shade: int) -> None:
    page, ink = rgb(COLOURS["paper"][shade]), rgb(COLOURS["ink"][shade])
    for model in ("base", "tuned"):
        dense = tuple(
            MOST_OPAQUE * c + (1 - MOST_OPAQUE) * p for c, p in zip(rgb(light_colour(model)), page, strict=True)
        )
        assert contrast(ink, dense) >= 4.5
    for name in ("muted", "base", "tuned"):
        assert contrast(rgb(COLOURS[name][shade]), page) >= 4.5
    for name in (name for name in COLOURS if name.startswith("series")):
        assert contrast(rgb(COLOURS[name][shade]), page) >= 3


def test_the_dot_of_a_score_is_on_the_side_of_its_sign() -> None:
    def position(value: float, low: float, high: float) -> float:
        found = re.search(r'cx="([\d.]+)"', interval_svg(Score("f", "s", value, low, high, None, 9)))
        assert found
        return float(found.group(1)) - WIDTH / 2

    assert position(0.2, 0.1, 0.3) > 0 > position(-0.2, -0.3, -0.1)
    assert position(0.0, -0.1, 0.1) == 0
    assert position(0.2, 0.1, 0.3) == pytest.approx(position(2e-9, 1e-9, 3e-9))


@pytest.mark.parametrize("kind", ["line", "bar", "heat"])
def test_a_users_settings_of_matplotlib_change_no_chart_and_stay(kind: str) -> None:
    own = {
        "font.family": ["serif"], "font.size": 20.0, "axes.facecolor": "yellow", "axes.titlelocation": "right",
        "axes.linewidth": 4.0, "lines.marker": "x", "lines.markersize": 12.0, "xtick.direction": "in",
        "savefig.bbox": "tight", "path.sketch": (3.0, 10.0, 2.0), "svg.fonttype": "path", "figure.dpi": 50.0,
        "legend.fontsize": 20.0, "axes.grid": True, "errorbar.capsize": 9.0, "pcolor.shading": "nearest",
    }  # fmt: skip
    picture = figure(kind, ["base", "tuned"], [0, 1, 2], dashed=("base",))
    before = figure_svg(picture)
    with matplotlib.rc_context(own):
        assert figure_svg(picture) == before
        assert {name: matplotlib.rcParams[name] for name in own} == own
