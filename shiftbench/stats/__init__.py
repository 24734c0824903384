"""Statistics of findings: intervals, tests, effect sizes, and angles and rotations between subspaces.

All of them compute with numbers alone: none reads a file or knows a model. Shape suffixes of this package: S resamples,
G groups or strata, N observations, C components, D width, F rows of a weight matrix. In docstrings, `values [n]` is a
one-dimensional array of n observations.
"""

from shiftbench.stats.bootstrap import Bootstrap, Interval
from shiftbench.stats.crossed import CrossedDifference, crossed_difference
from shiftbench.stats.effects import Effect, independent_effect, paired_effect
from shiftbench.stats.groups import BetweenGroups, between_groups
from shiftbench.stats.multiple import holm
from shiftbench.stats.null import FEWEST_DRAWS, Excess, NullPlace, excess_over_null, fewest_draws, place_in_null
from shiftbench.stats.parts import error_from_parts, with_error
from shiftbench.stats.permutation import SignFlip, sign_flip
from shiftbench.stats.proportions import lower_bound, upper_bound
from shiftbench.stats.subspaces import (
    match_components,
    matched_cosines,
    permuted_change,
    principal_angles,
    random_change,
    random_orthonormal,
    rescaling_share,
    rotated_change,
    rotation_share,
)
from shiftbench.stats.t_tests import TTest, paired_p, paired_test, student_test, welch, welch_test

__all__ = [
    "FEWEST_DRAWS",
    "BetweenGroups",
    "Bootstrap",
    "CrossedDifference",
    "Effect",
    "Excess",
    "Interval",
    "NullPlace",
    "SignFlip",
    "TTest",
    "between_groups",
    "crossed_difference",
    "error_from_parts",
    "excess_over_null",
    "fewest_draws",
    "holm",
    "independent_effect",
    "lower_bound",
    "match_components",
    "matched_cosines",
    "paired_effect",
    "paired_p",
    "paired_test",
    "permuted_change",
    "place_in_null",
    "principal_angles",
    "random_change",
    "random_orthonormal",
    "rescaling_share",
    "rotated_change",
    "rotation_share",
    "sign_flip",
    "student_test",
    "upper_bound",
    "welch",
    "welch_test",
    "with_error",
]
