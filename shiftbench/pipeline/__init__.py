"""One job of `shiftbench score`, from a composed configuration to results on disk; one file for each step.

run.py           calls the steps below in their order
job.py           Job: what to score and how, built from the configuration
checks.py        refuses a job that cannot be done: before weights are read, and again once models are loaded
session.py       Session: a running job with its models, each loaded when a step first needs it
encoding.py      prompts as token ids, for both models; leaves out those that cannot be explained
responses.py     the responses to explain: decoded greedily, or given with the prompts
gathering.py     explanations: each unit is read from the store, or computed and stored
choosing.py      chooses the attribution method of findings that leave it open
scoring.py       scores a finding on the explanations that it needs
controls.py      scores the findings on null models too, and adds the comparison to their results
recording.py     writes scores.json, the report and the record for MLflow, and prints the answer
tracked.py       a finished job as the run that MLflow gets
estimate.py      estimates a job's time, memory and disk space (dry_run=true)
progress.py      shows the progress of long work on standard error
"""
