"""Tables of the labels that an annotator gave to base's and tuned's concepts (Wu et al. 2023, section 4.3).

label_table has a row for each component and label, table5 one for each label (the paper's Table 5), and concepts one
for each component, with its words. Explanations here are those of explain/feedforward.py: a unit is a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from shiftbench.stats import TTest, error_from_parts, match_components, student_test, welch_test
from shiftbench.store.explanation import Explanation, Unit

TASKS = ("writing", "math", "coding", "translation", "none")
LEVELS = ("phonology", "morphology", "syntax", "semantics")
DEPTH_GROUPS = 8


def label_table(base: Explanation, tuned: Explanation) -> pd.DataFrame:
    """A row for each layer, component and label. Columns base and tuned: whether that model's concept has the label.

    base and tuned are 0 or 1. For an annotator that reads each concept several times, they are the share of its
    readable answers that give the label, and NaN where no answer could be read. layer and component count from 0. The
    column group is the eighth of the depth that the layer is in, 0 to 7.

    A row's two concepts are those of base's component and of the component of tuned that it is matched with
    (stats.match_components), because tuning also changes the order of components. component is base's number.
    """
    parts = []
    for layer, name in enumerate(base.units):
        names = base.units[name].words["label"]
        base_CL = _share_CL(base.units[name])
        tuned_CL = _share_CL(tuned.units[name])[matches(base.units[name], tuned.units[name])]
        component, label = np.indices(base_CL.shape)
        parts.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "component": component.ravel(),
                    "label": np.array(names)[label.ravel()],
                    "base": base_CL.ravel(),
                    "tuned": tuned_CL.ravel(),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(group=table["layer"] * DEPTH_GROUPS // len(base.units))


def label_shares(explanation: Explanation) -> dict[str, float]:
    """For each label, the share of a model's concepts that have it; a concept without a readable answer does not count.

    A concept that is read several times counts by the share of its readable answers that give the label. The share is 0
    where no concept has a readable answer. The difference of two models' shares is the mean difference of the matched
    concepts in label_table, unless some concept has no readable answer.
    """
    share_CL = np.concatenate([_share_CL(unit) for unit in explanation.units.values()])
    names = next(iter(explanation.units.values())).words["label"]
    return {name: _mean(share_C) or 0.0 for name, share_C in zip(names, share_CL.T, strict=True)}


def matches(base: Unit, tuned: Unit) -> NDArray[np.int64]:
    """place_C: for each of base's components in a layer, the number of the component of tuned that it is matched with.

    Both models have equally many components in a layer, so each is matched with one of the other's.
    """
    place_C, _ = match_components(base.arrays["component_CD"], tuned.arrays["component_CD"])
    return place_C.numpy()


def annotator_errors(base: Explanation, tuned: Explanation) -> dict[str, float]:
    """For each label, the standard error that the rise of its share has from the annotator's random draws.

    It is found by batch means over the parts of these draws (label_GCL). The dict is empty where there are none.
    """
    rises = []
    for name in base.units:
        units = (base.units[name], tuned.units[name])
        if any("label_GCL" not in unit.arrays for unit in units):
            return {}
        base_GL, tuned_GL = (unit.arrays["label_GCL"].double().sum(1) for unit in units)
        rises.append(tuned_GL - base_GL)
    names = next(iter(base.units.values())).words["label"]
    count = sum(len(unit.arrays["component_CD"]) for unit in base.units.values())
    rise_GL = torch.stack(rises).sum(0) / count
    return {label: error_from_parts(rise_GL[:, place].numpy()) for place, label in enumerate(names)}


def change_of_reading(tuned: Explanation, label: str) -> pd.DataFrame | None:
    """A row for each component of tuned, with its layer and `change`: what reading it in tuned's embeddings changes.

    change: whether the component has the label as read in tuned's own embeddings, less whether it has it as read in
    base's; 1, 0 or -1. None where the components were not read twice.
    """
    rows = []
    for layer, unit in enumerate(tuned.units.values()):
        if "own_label_CL" not in unit.arrays:
            return None
        place = unit.words["label"].index(label)
        own_C, read_C = (unit.arrays[name][:, place].numpy().astype(float) for name in ("own_label_CL", "label_CL"))
        rows.append(pd.DataFrame({"layer": layer, "change": own_C - read_C}))
    return pd.concat(rows, ignore_index=True)


def random_directions(base: Explanation) -> NDArray[np.bool_] | None:
    """label_NL: the labels of the random directions that were read and labelled beside base's components.

    None where a layer has none.
    """
    found = [unit.arrays.get("random_label_CL") for unit in base.units.values()]
    given = [label_CL.numpy() for label_CL in found if label_CL is not None]
    return np.concatenate(given) if len(given) == len(found) else None


def chance_table(base: Explanation, labels: pd.DataFrame) -> pd.DataFrame | None:
    """A row for each label: the share of random directions, of base's and of tuned's components that have it.

    labels: label_table(base, tuned). The column `random directions` is their number. None where none were labelled.
    """
    given_NL = random_directions(base)
    if given_NL is None:
        return None
    names = next(iter(base.units.values())).words["label"]
    shares = labels.groupby("label")[["base", "tuned"]].mean()
    return pd.DataFrame(
        {
            "label": names,
            "share of random directions": given_NL.mean(0),
            "share of base's components": [shares.loc[name, "base"] for name in names],
            "share of tuned's components": [shares.loc[name, "tuned"] for name in names],
            "random directions": len(given_NL),
        }
    )


def label_tests(base: Explanation, tuned: Explanation, labels: pd.DataFrame) -> dict[str, TTest | None]:
    """The paper's test for each label: Student's t-test of base's shares against tuned's, one share for each seed.

    t is positive where base's share is larger. labels: label_table(base, tuned). A value is None where the test is not
    defined. The dict is empty where the annotator has no seeds, that is, where it reads each concept once.
    """
    if not _has_seeds(base):
        return {}
    shares = {label: (_share_by_seed(base, label), _share_by_seed(tuned, label)) for label in labels["label"].unique()}
    return {label: student_test(*both) for label, both in shares.items()}


def table5(base: Explanation, tuned: Explanation, labels: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 5: a row for each label, with the share of base's and of tuned's concepts that have the label.

    Mean, standard deviation and Student's equal-variance t-test are over the annotator's seeds, as in the paper. For an
    annotator without seeds, such as the lexical one, mean, standard deviation and Welch's test are over layers. labels:
    label_table(base, tuned). Both tests are two-sided, and t is positive where base's share is larger. A number that is
    not defined is missing (NaN or None).
    """
    rows = []
    for label in (*TASKS, *LEVELS):
        if _has_seeds(base):
            first, second = _share_by_seed(base, label), _share_by_seed(tuned, label)
            test, name = student_test(first, second), "Student"
        else:
            by_layer = labels[labels["label"] == label].groupby("layer")[["base", "tuned"]].mean()
            first, second = by_layer["base"].to_numpy(), by_layer["tuned"].to_numpy()
            test, name = welch_test(first, second, "two-sided"), "Welch"
        rows.append(
            {
                "label": label,
                "kind": "user task" if label in TASKS else "linguistic level",
                "base mean": _mean(first),
                "base std": _std(first),
                "tuned mean": _mean(second),
                "tuned std": _std(second),
                f"{name} t": test.t if test else None,
                f"{name} p, two-sided": test.p if test else None,
            }
        )
    return pd.DataFrame(rows)


def concepts(base: Explanation, tuned: Explanation, shown: int = 12) -> pd.DataFrame:
    """A row for each model, layer and component: the component's share of the variance, its labels and first words.

    A label is listed if more than half of the annotator's readable answers give it. Where a chat model described the
    concepts, the column description has its description by the first seed. shown: the most words of a component that
    are listed.
    """
    rows = []
    for model, explanation in (("base", base), ("tuned", tuned)):
        for layer, unit in enumerate(explanation.units.values()):
            top = unit.arrays["index_CK"].shape[1]
            has_CL, ratio_C = _share_CL(unit) > 0.5, unit.arrays["variance_ratio_C"]
            for component, ratio in enumerate(ratio_C.tolist()):
                words = unit.words["word"][component * top : component * top + shown]
                has = [name for name, on in zip(unit.words["label"], has_CL[component], strict=True) if on]
                row = {"model": model, "layer": layer, "component": component, "variance share": ratio}
                row |= {"labels": ", ".join(has), "first words": " ".join(words)}
                if "description" in unit.words:
                    row["description"] = unit.words["description"][component]
                rows.append(row)
    return pd.DataFrame(rows)


def unread_notes(base: Explanation, tuned: Explanation) -> list[str]:
    """At most two remarks: how many answers of the annotator could not be read, and how many named no concept.

    Answers that name no concept are remarked on where they are left out (annotate.prompt=paper). The list is empty
    where the annotator gives no answers (the lexical one).
    """
    unread, cannot_tell = [], []
    for model, explanation in (("base", base), ("tuned", tuned)):
        arrays = [unit.arrays for unit in explanation.units.values() if "answered_SC" in unit.arrays]
        asked, read = (sum(int(f(one["answered_SC"])) for one in arrays) for f in (torch.numel, torch.sum))
        told = sum(int(one["cannot_tell_SC"].sum()) for one in arrays if "cannot_tell_SC" in one)
        unread += [f"{asked - read - told} of {asked} for {model}"] * (asked - read > told)
        cannot_tell += [f"{told} of {asked} for {model}"] * (told > 0)
    remarks = (
        ("Labels that could not be read in the annotator's answers", unread),
        ("Concepts of which the annotator could tell nothing", cannot_tell),
    )
    return [f"{what}: {', '.join(counts)}; left out." for what, counts in remarks if counts]


def _has_seeds(explanation: Explanation) -> bool:
    return any("label_SCL" in unit.arrays for unit in explanation.units.values())


def _share_CL(unit: Unit) -> NDArray[np.float64]:
    """share_CL: for each component, the share of the readable answers that give each label; NaN where none is readable.

    For an annotator that reads each concept once, the shares are its labels, as 0 and 1.
    """
    if "label_CL" in unit.arrays:
        return unit.arrays["label_CL"].numpy().astype(np.float64)
    read_C = unit.arrays["answered_SC"].sum(0).numpy()[:, None].astype(np.float64)
    given_CL = unit.arrays["label_SCL"].sum(0).numpy().astype(np.float64)
    return np.divide(given_CL, read_C, out=np.full_like(given_CL, np.nan), where=read_C > 0)


def _share_by_seed(explanation: Explanation, label: str) -> NDArray[np.float64]:
    """For each seed, the share of concepts that got the label, among those whose answer could be read; float64 [S].

    The concepts are those of all layers. Seeds without a readable answer are left out, so S can be less than the number
    of seeds.
    """
    given, read = [], []
    for unit in explanation.units.values():
        given.append(unit.arrays["label_SCL"][:, :, unit.words["label"].index(label)].sum(1).numpy())
        read.append(unit.arrays["answered_SC"].sum(1).numpy())
    given_S, read_S = np.sum(given, axis=0), np.sum(read, axis=0)
    return np.asarray(given_S[read_S > 0] / read_S[read_S > 0], dtype=np.float64)


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """The mean of the values that are not NaN; None where all are NaN or there is no value."""
    found = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(found)) if np.isfinite(found).any() else None


def _std(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """The sample standard deviation (ddof 1) of the values that are not NaN; None where fewer than two are left."""
    found = np.asarray(values, dtype=np.float64)
    return float(np.nanstd(found, ddof=1)) if np.isfinite(found).sum() > 1 else None
