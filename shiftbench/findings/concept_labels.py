"""Labels of concepts as tables: per component, by label (the paper's Table 5), and with their words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shiftbench.stats import TTest, student_test, welch_test
from shiftbench.store.explanation import Explanation, Unit

TASKS = ("writing", "math", "coding", "translation", "none")
LEVELS = ("phonology", "morphology", "syntax", "semantics")
DEPTH_GROUPS = 8


def labels_of(base: Explanation, tuned: Explanation) -> pd.DataFrame:
    """A row a layer, component and label: whether base's and tuned's concept has it.

    0 or 1, or the share of an annotator's readings that give it; NaN where none could be read.
    """
    parts = []
    for layer, name in enumerate(base.units):
        names = base.units[name].words["label"]
        base_CL, tuned_CL = _share_CL(base.units[name]), _share_CL(tuned.units[name])
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


def tests_of(base: Explanation, tuned: Explanation, labels: pd.DataFrame) -> dict[str, TTest | None]:
    """Per label the paper's test: base against tuned over an annotator's seeds; none where it has no seeds."""
    if not _has_seeds(base):
        return {}
    shares = {label: (_over_seeds(base, label), _over_seeds(tuned, label)) for label in labels["label"].unique()}
    return {label: student_test(*both) for label, both in shares.items()}


def table5(base: Explanation, tuned: Explanation, labels: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 5: share of concepts with each label in base and tuned.

    Mean, std and equal-variance t-test over the annotator's seeds, as in the paper. The lexical annotator has none:
    there, mean, std and Welch's test are over layers.
    """
    lines = []
    for label in (*TASKS, *LEVELS):
        if _has_seeds(base):
            first, second = _over_seeds(base, label), _over_seeds(tuned, label)
            test, name = student_test(first, second), "Student"
        else:
            by_layer = labels[labels["label"] == label].groupby("layer")[["base", "tuned"]].mean()
            first, second = by_layer["base"].to_numpy(), by_layer["tuned"].to_numpy()
            test, name = welch_test(first, second, "two-sided"), "Welch"
        lines.append(
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
    return pd.DataFrame(lines)


def concepts(base: Explanation, tuned: Explanation, shown: int = 12) -> pd.DataFrame:
    """A row a layer, model and component: its labels (of most readings), its variance and its first words.

    Where a model described the concepts, also its first description.
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


def unread(base: Explanation, tuned: Explanation) -> list[str]:
    """A remark where answers of an annotator could not be read."""
    counts = []
    for model, explanation in (("base", base), ("tuned", tuned)):
        answered = [u.arrays["answered_SC"] for u in explanation.units.values() if "answered_SC" in u.arrays]
        asked, read = sum(a.numel() for a in answered), sum(int(a.sum()) for a in answered)
        if read < asked:
            counts.append(f"{asked - read} of {asked} for {model}")
    return [f"Labels that could not be read in the annotator's answers: {', '.join(counts)}; left out."] * bool(counts)


def _has_seeds(explanation: Explanation) -> bool:
    return any("label_SCL" in unit.arrays for unit in explanation.units.values())


def _share_CL(unit: Unit) -> NDArray[np.float64]:
    """Of each component's readings the share that gives a label; NaN where there is none."""
    if "label_CL" in unit.arrays:
        return unit.arrays["label_CL"].numpy().astype(np.float64)
    read_C = unit.arrays["answered_SC"].sum(0).numpy()[:, None].astype(np.float64)
    given_CL = unit.arrays["label_SCL"].sum(0).numpy().astype(np.float64)
    return np.divide(given_CL, read_C, out=np.full_like(given_CL, np.nan), where=read_C > 0)


def _over_seeds(explanation: Explanation, label: str) -> NDArray[np.float64]:
    """Per seed, the share of a model's concepts that got the label, of those whose answer could be read."""
    given, read = [], []
    for unit in explanation.units.values():
        given.append(unit.arrays["label_SCL"][:, :, unit.words["label"].index(label)].sum(1).numpy())
        read.append(unit.arrays["answered_SC"].sum(1).numpy())
    given_S, read_S = np.sum(given, axis=0), np.sum(read, axis=0)
    return np.asarray(given_S[read_S > 0] / read_S[read_S > 0], dtype=np.float64)


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    found = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(found)) if np.isfinite(found).any() else None


def _std(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    found = np.asarray(values, dtype=np.float64)
    return float(np.nanstd(found, ddof=1)) if np.isfinite(found).sum() > 1 else None
