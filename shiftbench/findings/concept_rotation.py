"""Finding 3: the concepts of feed-forward networks moved toward user tasks.

Wu et al. 2023, section 4.3; docs/mathematics.md, 'Concept rotation'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.explainer import Explainer, PairExplainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import BOTH_MODELS, Need
from shiftbench.contracts.result import Figure, Kind, Result, Score, ScoreFact, no_change
from shiftbench.errors import InputError
from shiftbench.explain.rotation import Rotation
from shiftbench.findings.concept_labels import (
    LEVELS,
    TASKS,
    annotator_errors,
    chance_table,
    change_of_reading,
    concepts,
    label_shares,
    label_table,
    label_tests,
    random_directions,
    table5,
    unread_notes,
)
from shiftbench.readers.numbers import check_whole
from shiftbench.stats import Bootstrap, TTest, matched_cosines, principal_angles, with_error
from shiftbench.store.explanation import Explanation

BY_CHANCE = ", random change"  # how the names of series end that show the level of chance
RANDOM_BASE_TUNED = ("random directions", "base's components", "tuned's components")
OVER_LAYERS = "; low and high: the smallest and largest layer"
FACTS = {
    "none_share_fall": ScoreFact(
        "fall of concepts without a user task",
        "share of concepts, base - tuned",
        "a smaller share of the tuned model's concepts belongs to no user task",
        "the same share of the concepts of both models belongs to no user task",
    ),
    "none_share_fall_from_embeddings": ScoreFact(
        "further fall by reading in tuned's embeddings",
        "share of tuned's concepts, read in base's embeddings - read in tuned's",
        "in the tuned model's own word embeddings fewer of its components have no user task than in the base model's",
        "the tuned model's components have no user task equally often in both models' word embeddings",
        Kind.DIAGNOSTIC,
    ),
    "random_label_share": ScoreFact(
        "labels of random directions",
        "share of random directions, mean over labels",
        "each label is given to random directions too; at most the share annotate.false_alarm of them is promised",
        "no random direction gets a label",
        Kind.DIAGNOSTIC,
    ),
    **{
        f"{label}_share_rise": ScoreFact(
            f"rise of concepts of {label}",
            "share of concepts, tuned - base",
            f"a larger share of the tuned model's concepts has the label {label}",
            f"the same share of the concepts of both models has the label {label}",
        )
        for label in (*TASKS[:-1], *LEVELS)
    },
    "mean_angle_*_rad_over_chance": ScoreFact(
        "turn of the leading components' subspace, over chance",
        f"mean principal angle, radians, less that of a random change of its size{OVER_LAYERS}",
        "the subspace of so many leading components turned further than by a random change of the same size",
        "the subspace turned as far as by a random change of the same size",
        Kind.DIAGNOSTIC,
    ),
    "mean_angle_*_rad": ScoreFact(
        "turn of the leading components' subspace",
        f"mean principal angle, radians{OVER_LAYERS}",
        "the subspace of so many leading components differs between the models, as after almost any change of weights",
        "the subspace is the same in both models",
        Kind.DIAGNOSTIC,
        signed=False,
    ),
    "unmatched_cosine_over_chance": ScoreFact(
        "components without a counterpart, over chance",
        f"1 - mean |cosine| of matched components, less that of a random change of its size{OVER_LAYERS}",
        "components differ more than by a random change of the same size",
        "components differ as much as by a random change of the same size",
        Kind.DIAGNOSTIC,
    ),
    "unmatched_cosine": ScoreFact(
        "components without a counterpart",
        f"1 - mean |cosine| of matched components{OVER_LAYERS}",
        "base's components differ in direction from the components of tuned that they are matched with",
        "every component of base has the direction of one of tuned's",
        Kind.DIAGNOSTIC,
        signed=False,
    ),
    "rotation_share_over_chance": ScoreFact(
        "change that is a rotation",
        f"share of the squared change, less that of a random change of its size{OVER_LAYERS}",
        "a rotation explains a larger share of the weight change than of a random change of the same size",
        "a rotation explains equal shares of the weight change and of a random change of the same size",
        Kind.DIAGNOSTIC,
    ),
}

CLAIMS = (
    Claim(
        score="none_share_fall",
        short="concepts moved toward user tasks",
        statement="the concepts of the tuned model's feed-forward networks moved toward user tasks",
        opposite="the concepts of the tuned model's feed-forward networks moved away from user tasks",
        observations="concepts",
        floor=30,
        zero_is_null=False,
        static_vectors=True,
    ),
)


CAPTIONS = {
    "table5": (
        "One row is one label of concepts. The columns have the mean share of concepts with the label in each model, "
        "its standard deviation over the annotator's seeds or over layers, and a test of the difference."
    ),
    "layers": (
        "One row is one layer. The columns have the mean and largest principal angle in radians between the "
        "subspaces of the first R components of both models, how little matched components agree (1 - cosine), both "
        "also by a random change of the same size (_by_chance), the "
        "shares of the weight change that a rotation, chance and a rescaling explain, and the size of the change "
        "relative to the weights."
    ),
    "random_directions": (
        "One row is one label. The columns have the share of random directions, of base's and of tuned's components "
        "that get it, all read as words and labelled in the same way, and the number of random directions."
    ),
    "concepts": (
        "One row is one principal component of one model's layer, which stands for a concept. The columns have the "
        "share of the variance that it explains, its labels, and the words nearest to its direction."
    ),
}


@dataclass(frozen=True)
class ConceptRotation(Finding):
    """Compares the concepts of base's and tuned's feed-forward networks, and measures how far the components turned.

    explain: gives each model's components and concepts, with labels. explain_pair: gives the shares of the weight
    change that are a rotation or a rescaling. ranks: the numbers of leading components whose subspaces are compared by
    principal angles; a rank above the number of stored components is replaced by that number.
    """

    explain: Explainer
    explain_pair: Rotation
    ranks: Sequence[int]
    bootstrap: Bootstrap
    name: ClassVar[str] = "concept_rotation"
    version: ClassVar[int] = 2
    group: ClassVar[Group] = Group.FEED_FORWARD
    needs: ClassVar[frozenset[Need]] = BOTH_MODELS
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS
    claims: ClassVar[Sequence[Claim]] = CLAIMS

    def __post_init__(self) -> None:
        if not self.ranks:
            raise InputError("concept_rotation: ranks=[] must name at least one rank")
        for rank in self.ranks:
            check_whole("concept_rotation: ranks: rank", rank, 1)

    def __call__(self, base: Explanation, tuned: Explanation, between: Explanation | None = None) -> Result:
        """The result: scores of how the shares of concepts with a label changed, and of how far the components turned.

        base, tuned: explanations by `explain`, both read in base's word embeddings. between: the pair's explanation by
        `explain_pair`; None: the result has no scores of how far the components turned.
        """
        labels = label_table(base, tuned)
        chance = chance_table(base, labels)
        layers = None if between is None else self._layers(base, tuned, between)
        scores = self._label_scores(base, tuned, labels)
        scores += [] if chance is None else [self._random_label_score(base)]
        scores += [] if layers is None else self._layer_scores(layers)
        further = {"layers": layers, "random_directions": chance}
        figures = [_levels_figure(labels), _tasks_figure(labels)]
        figures += [] if layers is None else [_angles_figure(layers), _change_figure(layers)]
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline="none_share_fall",
            sentence=_sentence({score.name: score for score in scores}),
            scores=scores,
            tables={
                "table5": table5(base, tuned, labels),
                "concepts": concepts(base, tuned),
                **{name: table for name, table in further.items() if table is not None},
            },
            figures=figures,
            notes=[*unread_notes(base, tuned), *_chance_notes(chance)],
        )

    def pair_explainer(self) -> PairExplainer:
        """The option `explain_pair`, which explains what share of the weight change is a rotation or a rescaling."""
        return self.explain_pair

    def null_values(self, base: Explanation, null: Explanation) -> Mapping[str, float]:
        """The values of none_share_fall and of each LABEL_share_rise, with the null model in the tuned model's place.

        Angles and the rotation share are compared with chance in another way (`_layers`). base, null: explanations by
        `explain`, both read in base's word embeddings.
        """
        before, after = label_shares(base), label_shares(null)
        rises = {f"{label}_share_rise": after[label] - before[label] for label in (*TASKS[:-1], *LEVELS)}
        return {"none_share_fall": before["none"] - after["none"], **rises}

    def null_pair_explainer(self) -> None:
        """None: the label scores of a null model do not depend on how far its weights turned."""

    def _label_scores(self, base: Explanation, tuned: Explanation, labels: pd.DataFrame) -> list[Score]:
        tests, errors = label_tests(base, tuned, labels), annotator_errors(base, tuned)
        change = labels.assign(change=labels["tuned"] - labels["base"])
        fall = change[change["label"] == "none"].assign(change=lambda rows: -rows["change"])
        scores = [self._share_score("none_share_fall", fall, tests.get("none"), errors.get("none", 0.0))]
        own = change_of_reading(tuned, "none")
        if own is not None:
            own = own.assign(change=-own["change"])
            scores.append(self._share_score("none_share_fall_from_embeddings", own, None, 0.0))
        for label in (*TASKS[:-1], *LEVELS):
            rows = change[change["label"] == label]
            scores.append(self._share_score(f"{label}_share_rise", rows, tests.get(label), errors.get(label, 0.0)))
        return scores

    def _share_score(self, name: str, rows: pd.DataFrame, test: TTest | None, error: float) -> Score:
        """The mean of rows["change"] over components, as a score; `no_change` where every change is 0 or NaN.

        rows: one for each component, with the columns layer and change; those whose change is NaN are left out. test:
        gives its p; None: it has none. error: the standard error that the mean has from the annotator's random draws.
        """
        rows = rows.dropna(subset=["change"])  # change is NaN where no answer on one of the two concepts could be read
        if not rows["change"].any():
            return no_change(self.name, name)
        # The observations are components. Each resample draws them within their layer, because the layers are fixed.
        interval = self.bootstrap.stratified_mean(rows["change"], rows["layer"])
        interval = with_error(interval, error, self.bootstrap.confidence)
        return Score(self.name, name, interval.value, interval.low, interval.high, test.p if test else None, len(rows))

    def _random_label_score(self, base: Explanation) -> Score:
        given_NL = random_directions(base)
        assert given_NL is not None
        names = next(iter(base.units.values())).words["label"]
        share_N = given_NL[:, [place for place, name in enumerate(names) if name != "none"]].mean(1)
        interval = self.bootstrap.mean(share_N)
        return Score(self.name, "random_label_share", interval.value, interval.low, interval.high, None, len(share_N))

    def _layer_scores(self, layers: pd.DataFrame) -> list[Score]:
        """Scores that are means over layers. low and high: the smallest and the largest value of a layer.

        They are the mean angle of each rank and unmatched_cosine, each also less its value by chance, and the rotation
        share less its value by chance. The rotation share is over the layers that changed.
        """
        angles = [
            str(column)
            for column in layers
            if str(column).startswith("mean_angle_") and not str(column).endswith("_by_chance")
        ]
        scores = []
        for column, name in [*((column, f"{column}_rad") for column in angles), *[("unmatched_cosine",) * 2]]:
            scores.append(self._layer_score(name, layers[column]))
            scores.append(self._layer_score(f"{name}_over_chance", layers[column] - layers[f"{column}_by_chance"]))
        changed = layers[layers["relative_change"] > 0]
        excess = changed["rotation_share"] - changed["rotation_share_by_chance"]
        return [*scores, self._layer_score("rotation_share_over_chance", excess)]

    def _layer_score(self, name: str, values: pd.Series) -> Score:
        if not values.any():
            return no_change(self.name, name)
        return Score(self.name, name, float(values.mean()), float(values.min()), float(values.max()), None, len(values))

    def _layers(self, base: Explanation, tuned: Explanation, between: Explanation) -> pd.DataFrame:
        """A row for each layer: how its components and its down-projection changed from base to tuned.

        mean_angle_R, max_angle_R: mean and largest principal angle, in radians, between the subspaces of base's and
        tuned's first R components, for each rank R. unmatched_cosine: the mean of 1 - |cosine| over matched components.
        mean_angle_R_by_chance, unmatched_cosine_by_chance: the same numbers for a random change (stats.random_change);
        0 in a layer that did not change. rotation_share, rotation_share_by_chance, rescaling_share, relative_change:
        the four numbers of share_4 in the layer's unit of `between` (Rotation.work).
        """
        rows = []
        for layer, name in enumerate(base.units):
            first = base.units[name].arrays["component_CD"]
            second = tuned.units[name].arrays["component_CD"]
            random = between.units[name].arrays["chance_component_CD"]
            share = between.units[name].arrays["share_4"].tolist()
            # Base plus a change of 0 is base, but computed on another device it can differ by rounding and show an
            # angle.
            by_chance = first if share[3] == 0 else random
            row: dict[str, float] = {"layer": layer}
            for rank in sorted({min(rank, len(first)) for rank in self.ranks}):
                angle_C = principal_angles(first[:rank], second[:rank])
                row[f"mean_angle_{rank}"] = float(angle_C.mean())
                row[f"max_angle_{rank}"] = float(angle_C.max())
                row[f"mean_angle_{rank}_by_chance"] = float(principal_angles(first[:rank], by_chance[:rank]).mean())
            row["unmatched_cosine"] = float((1 - matched_cosines(first, second)).mean())
            row["unmatched_cosine_by_chance"] = float((1 - matched_cosines(first, by_chance)).mean())
            keys = ("rotation_share", "rotation_share_by_chance", "rescaling_share", "relative_change")
            rows.append({**row, **dict(zip(keys, share, strict=True))})
        return pd.DataFrame(rows)


def _levels_figure(labels: pd.DataFrame) -> Figure:
    return Figure(
        name="linguistic_levels",
        title="Concepts of each linguistic level, by eighth of the depth (the paper's Figure 3)",
        kind="line",
        table=_by_group(labels, LEVELS),
        x="group",
        y="share",
        series="series",
        dashed=tuple(f"{label}, base" for label in LEVELS),
        x_label="eighth of the depth",
        y_label="share of concepts",
    )


def _tasks_figure(labels: pd.DataFrame) -> Figure:
    return Figure(
        name="user_tasks",
        title="Concepts of user tasks, by eighth of the depth",
        kind="line",
        table=_by_group(labels, TASKS[:-1]),
        x="group",
        y="share",
        series="series",
        dashed=tuple(f"{label}, base" for label in TASKS[:-1]),
        x_label="eighth of the depth",
        y_label="share of concepts",
    )


def _by_group(labels: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row for each label in `names`, eighth of the depth (1 to 8) and model: the share of concepts with the label.

    labels: the table of label_table. The column series is "LABEL, MODEL".
    """
    kept = labels[labels["label"].isin(names)]
    wide = kept.groupby(["label", "group"], as_index=False)[["base", "tuned"]].mean()
    long = wide.melt(["label", "group"], ["base", "tuned"], "model", "share")
    return long.assign(series=long["label"] + ", " + long["model"], group=long["group"] + 1)


def _angles_figure(layers: pd.DataFrame) -> Figure:
    columns = [column for column in layers if str(column).startswith("mean_angle_")]
    table = layers.melt("layer", columns, "series", "radians")
    series = "rank " + table["series"].str.removeprefix("mean_angle_")
    table["series"] = series.str.replace("_by_chance", BY_CHANCE)
    table["degrees"] = table["radians"] * 180 / math.pi
    return Figure(
        name="principal_angles",
        title="Mean principal angle between base's and tuned's component subspaces",
        kind="line",
        table=table,
        x="layer",
        y="degrees",
        series="series",
        dashed=tuple(name for name in table["series"].unique() if name.endswith(BY_CHANCE)),
        x_label="layer",
        y_label="degrees",
        signed=False,
    )


def _change_figure(layers: pd.DataFrame) -> Figure:
    named = {
        "rotation_share": "rotation",
        "rotation_share_by_chance": f"rotation{BY_CHANCE}",
        "rescaling_share": "rescaling",
    }
    table = layers.rename(columns=named).melt("layer", list(named.values()), "series", "share")
    return Figure(
        name="change_explained",
        title="Share of the weight change that a rotation or a rescaling explains",
        kind="line",
        table=table,
        x="layer",
        y="share",
        series="series",
        dashed=(named["rotation_share_by_chance"],),
        x_label="layer",
        y_label="share of squared change",
        signed=False,
    )


def _chance_notes(chance: pd.DataFrame | None) -> list[str]:
    """A list with one note: how often components of both models and random directions get a user task.

    It is empty where `chance`, which is the table of chance_table, is None.
    """
    if chance is None:
        return []
    none = chance.set_index("label").loc["none"]
    random, base, tuned = (1 - none[f"share of {name}"] for name in RANDOM_BASE_TUNED)
    return [
        f"A user task is given to {base:.1%} of the base model's components, to {tuned:.1%} of the tuned model's and "
        f"to {random:.1%} of {int(none['random directions'])} random directions that were read in the same way."
    ]


def _sentence(scores: dict[str, Score]) -> str:
    head = scores["none_share_fall"]
    if all(score.n == 0 for name, score in scores.items() if name != "random_label_share"):
        return "The feed-forward networks did not change: every component and every concept is where it was."
    turned = _turned(scores)
    if head.n == 0 or head.low <= 0 <= head.high:
        return f"The feed-forward networks' concepts did not clearly move toward user tasks ({_fall(head)}){turned}."
    verb = "toward" if head.value > 0 else "away from"
    return f"The feed-forward networks' concepts moved {verb} user tasks ({_fall(head)}){turned}."


def _turned(scores: dict[str, Score]) -> str:
    """A clause on the angle at the smallest rank beside its level of chance; empty where there are no angles."""
    names = [name for name in scores if name.startswith("mean_angle_") and name.endswith("_rad")]
    if not names:
        return ""
    angle, excess = scores[names[0]].value, scores[f"{names[0]}_over_chance"].value
    return (
        f"; the subspace of their first {names[0].split('_')[2]} components turned by {math.degrees(angle):.1f} "
        f"degrees, where a random change of the same size turns it by {math.degrees(angle - excess):.1f}"
    )


def _fall(score: Score) -> str:
    return f"share without a task fell by {score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"
