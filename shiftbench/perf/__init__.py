"""The performance gate: hot spots timed in alternation with yardsticks, and counted; `shiftbench perf record|check`.

A hot spot's time over its yardstick's, both in one process round by round, survives a change of machine of the same
class of CPU. What it computes (forward passes, FLOPs, bytes) is counted, and equal on every machine.
"""
