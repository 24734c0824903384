"""What may be said of a pair: a verdict on each claim of each finding, from the scores (docs/verdicts.md).

decision.py   Evidence, Verdict, and `decide`, the one pure function that turns the first into the second
sentences.py  verdicts in words
of_run.py     the verdicts of a run, from the results of its findings
"""

from shiftbench.verdicts.decision import Evidence, Null, Remedy, Verdict, Word, decide
from shiftbench.verdicts.of_run import Circumstances, verdicts_of

__all__ = ["Circumstances", "Evidence", "Null", "Remedy", "Verdict", "Word", "decide", "verdicts_of"]
