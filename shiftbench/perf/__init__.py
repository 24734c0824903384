"""The performance gate of `shiftbench perf record|check`: is the code as fast as it was? (docs/gates.md, Performance)

A hot spot is a computation that takes much of a run's time. Each hot spot is timed in alternation with a yardstick, a
computation that uses the machine in the same way. The ratio of both times is about the same on all machines with the
same class of CPU. What a hot spot computes (FLOPs, and for some also layers of forward passes or bytes) is counted, and
the counts are equal on all machines with the same versions of libraries.

hot_spots  what is measured: the hot spots and their yardsticks
cases      prompts with responses on which attribution is timed
measure    one measurement in a process of its own
timing     ours and a peer in alternation
counters   what a call computes: FLOPs, layers of forward passes, bytes
statistic  tells a slowdown from noise
baseline   the file of recorded counts and ratios
machine    the class of CPU that a ratio belongs to
check      compares a measurement with the baseline
history    a chart of the measurements so far
agreement  how far a result of ours is from a peer's
paper      attribution as the paper describes it, in plain torch
"""
