"""The behaviour gate: whether a pair still scores what an earlier run says. Rules, the reference, the verdict."""

from shiftbench.gate.reference import Scores, comparable, read
from shiftbench.gate.rules import Gate, Verdict, gate
from shiftbench.gate.summary import junit, markdown

__all__ = ["Gate", "Scores", "Verdict", "comparable", "gate", "junit", "markdown", "read"]
