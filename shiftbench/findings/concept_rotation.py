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
from shiftbench.findings.concept_labels import LEVELS, TASKS, concepts, label_table, label_tests, table5, unread_notes
from shiftbench.stats import Bootstrap, TTest, matched_cosines, principal_angles
from shiftbench.store.explanation import Explanation

FACTS = {
    "none_share_fall": ScoreFact(
        "fall of concepts without a user task",
        "share of concepts, base - tuned",
        "a smaller share of the tuned model's concepts belongs to no user task",
        "the same share of the concepts of both models belongs to no user task",
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
    "mean_angle_*_rad": ScoreFact(
        "turn of the leading components' subspace",
        "mean principal angle, radians",
        "the subspace of so many leading components differs between the models, as after almost any change of weights",
        "the subspace is the same in both models",
        Kind.DIAGNOSTIC,
        signed=False,
    ),
    "unmatched_cosine": ScoreFact(
        "components without a counterpart",
        "1 - mean |cosine| of matched components",
        "base's components differ in direction from the components of tuned that they are matched with",
        "every component of base has the direction of one of tuned's",
        Kind.DIAGNOSTIC,
        signed=False,
    ),
    "rotation_share_over_chance": ScoreFact(
        "change that is a rotation",
        "share of the squared change, less that of the permuted change",
        "a rotation explains a larger share of the weight change than of the same change with its entries permuted",
        "a rotation explains equal shares of the weight change and of the same change with its entries permuted",
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
        "subspaces of the first R components of both models, how little matched components agree (1 - cosine), the "
        "shares of the weight change that a rotation, chance and a rescaling explain, and the size of the change "
        "relative to the weights."
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
        if not self.ranks or min(self.ranks) < 1:
            raise InputError(f"concept_rotation: ranks={list(self.ranks)} must name at least one rank, each at least 1")

    def __call__(self, base: Explanation, tuned: Explanation, between: Explanation) -> Result:
        """The result: a score for each label's share of the concepts, and scores of how far the components turned.

        base, tuned: explanations by `explain`. between: the pair's explanation by `explain_pair`.
        """
        labels = label_table(base, tuned)
        layers = self._layers(base, tuned, between)
        scores = self._label_scores(labels, label_tests(base, tuned, labels)) + self._layer_scores(layers)
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline="none_share_fall",
            sentence=_sentence({score.name: score for score in scores}),
            scores=scores,
            tables={"table5": table5(base, tuned, labels), "layers": layers, "concepts": concepts(base, tuned)},
            figures=[_levels_figure(labels), _tasks_figure(labels), _angles_figure(layers), _change_figure(layers)],
            notes=unread_notes(base, tuned),
        )

    def pair_explainer(self) -> PairExplainer:
        """The option `explain_pair`, which explains what share of the weight change is a rotation or a rescaling."""
        return self.explain_pair

    def null_values(self, base: Explanation, null: Explanation) -> Mapping[str, float]:
        """The values of the label scores. Angles and the rotation share have null values of their own (`_layers`)."""
        values = {}
        for name, rows in _changes(label_table(base, null)).items():
            kept = rows["change"].dropna()
            values[name] = float(kept.mean()) if len(kept) else 0.0
        return values

    def null_pair_explainer(self) -> None:
        """None: the label scores of a null model do not depend on how far its weights turned."""

    def _label_scores(self, labels: pd.DataFrame, tests: Mapping[str, TTest | None]) -> list[Score]:
        return [
            self._share_score(name, rows, tests.get(str(rows["label"].iloc[0])))
            for name, rows in _changes(labels).items()
        ]

    def _share_score(self, name: str, rows: pd.DataFrame, test: TTest | None) -> Score:
        rows = rows.dropna(subset=["change"])  # change is NaN where no answer could be read
        if not rows["change"].any():
            return no_change(self.name, name)
        # The observations are components. Each resample draws them within their layer, because the layers are fixed.
        interval = self.bootstrap.stratified_mean(rows["change"], rows["layer"])
        return Score(self.name, name, interval.value, interval.low, interval.high, test.p if test else None, len(rows))

    def _layer_scores(self, layers: pd.DataFrame) -> list[Score]:
        columns = [column for column in layers if str(column).startswith("mean_angle_")]
        scores = [self._layer_score(f"{column}_rad", layers[column]) for column in columns]
        scores.append(self._layer_score("unmatched_cosine", layers["unmatched_cosine"]))
        changed = layers[layers["relative_change"] > 0]
        excess = changed["rotation_share"] - changed["rotation_share_by_chance"]
        return [*scores, self._layer_score("rotation_share_over_chance", excess)]

    def _layer_score(self, name: str, values: pd.Series) -> Score:
        if not values.any():
            return no_change(self.name, name)
        interval = self.bootstrap.mean(values)
        return Score(self.name, name, interval.value, interval.low, interval.high, None, len(values))

    def _layers(self, base: Explanation, tuned: Explanation, between: Explanation) -> pd.DataFrame:
        """A row for each layer: how its components and its down-projection changed from base to tuned.

        mean_angle_R, max_angle_R: mean and largest principal angle, in radians, between the subspaces of base's and
        tuned's first R components, for each rank R. unmatched_cosine: the mean of 1 - |cosine| over matched components.
        rotation_share, rotation_share_by_chance, rescaling_share, relative_change: the four numbers of share_4 in the
        layer's unit of `between` (Rotation.work).
        """
        rows = []
        for layer, name in enumerate(base.units):
            first = base.units[name].arrays["component_CD"]
            second = tuned.units[name].arrays["component_CD"]
            share = between.units[name].arrays["share_4"].tolist()
            row: dict[str, float] = {"layer": layer}
            for rank in sorted({min(rank, len(first)) for rank in self.ranks}):
                angle_C = principal_angles(first[:rank], second[:rank])
                row[f"mean_angle_{rank}"] = float(angle_C.mean())
                row[f"max_angle_{rank}"] = float(angle_C.max())
            row["unmatched_cosine"] = float((1 - matched_cosines(first, second)).mean())
            keys = ("rotation_share", "rotation_share_by_chance", "rescaling_share", "relative_change")
            rows.append({**row, **dict(zip(keys, share, strict=True))})
        return pd.DataFrame(rows)


def _changes(labels: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each label score, the rows of its label, with the column change: what each component adds to the score.

    labels: label_table(base, tuned).
    """
    change = labels.assign(change=labels["tuned"] - labels["base"])
    by_label = {label: change[change["label"] == label] for label in (*TASKS, *LEVELS)}
    fall = by_label.pop("none").assign(change=lambda rows: -rows["change"])
    return {"none_share_fall": fall, **{f"{label}_share_rise": rows for label, rows in by_label.items()}}


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
    table["series"] = "rank " + table["series"].str.removeprefix("mean_angle_")
    table["degrees"] = table["radians"] * 180 / math.pi
    return Figure(
        name="principal_angles",
        title="Mean principal angle between base's and tuned's component subspaces",
        kind="line",
        table=table,
        x="layer",
        y="degrees",
        series="series",
        x_label="layer",
        y_label="degrees",
        signed=False,
    )


def _change_figure(layers: pd.DataFrame) -> Figure:
    named = {
        "rotation_share": "rotation",
        "rotation_share_by_chance": "rotation, same change permuted",
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


def _sentence(scores: dict[str, Score]) -> str:
    head = scores["none_share_fall"]
    angles = [score for name, score in scores.items() if name.startswith("mean_angle_")]
    if all(score.n == 0 for score in scores.values()):
        return "The feed-forward networks did not change: every component and every concept is where it was."
    turned = f"their leading component subspaces turned by {math.degrees(angles[0].value):.0f} degrees on average"
    if head.n == 0 or head.low <= 0 <= head.high:
        return f"The feed-forward networks' concepts did not clearly move toward user tasks ({_fall(head)}); {turned}."
    verb = "toward" if head.value > 0 else "away from"
    return f"The feed-forward networks' concepts moved {verb} user tasks ({_fall(head)}); {turned}."


def _fall(score: Score) -> str:
    return f"share without a task fell by {score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"
