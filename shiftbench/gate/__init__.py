"""The behaviour gate: does a pair still score what an earlier run, the reference, scored? (docs/gates.md, Behaviour)

`rules.py` has the rules and their results, `reference.py` reads a run's scores.json and checks that two runs can be
compared, and `summary.py` writes the result for people and for CI.
"""

from shiftbench.gate.reference import Scores, check_comparable, read
from shiftbench.gate.rules import Gate, Outcome, gate
from shiftbench.gate.summary import junit, markdown

__all__ = ["Gate", "Outcome", "Scores", "check_comparable", "gate", "junit", "markdown", "read"]
