"""One job of `shiftbench score`, from a composed configuration to results on disk; a file a step.

run.py           calls the steps below in their order
job.py           Job: everything that was asked for, built from the configuration
checks.py        refuses what cannot be done, before weights are read and again once models are loaded
session.py       Session: the job with its models, each loaded when a step first needs it
encoding.py      prompts as token ids, the same for both models
responses.py     the responses to explain: decoded greedily, or given as references
gathering.py     explanations: each unit is taken from the store, or computed and stored
scoring.py       every finding on the explanations that it needs
controls.py      the same findings on null models
recording.py     scores.json, report and tracked run
estimate.py      what a job would take (dry_run=true)
progress.py      what long work shows of itself
"""
