"""The performance gate of `shiftbench perf record|check`: is the code as fast as it was? (docs/gates.md, Performance)

A hot spot is a computation that takes much of a run's time. Each hot spot is timed in alternation with a yardstick, a
computation that uses the machine in the same way. The ratio of both times is the same on all machines with the same
class of CPU. What a hot spot computes (forward passes, FLOPs, bytes) is counted, and the counts are equal on every
machine.
"""
