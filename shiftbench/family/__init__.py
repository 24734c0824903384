"""Scores several tuned models of one base on several groups of prompts, and compares the scores (docs/chains.md).

inputs      the jobs (one for each tuned model) and the groups of prompts that a configuration requests
matrix      scores every tuned model on every group
chain       where the models are checkpoints of one chain of tunings: their scores over the chain, and forgetting
mixture     where the models are instruction mixtures: their shifts, skill by skill
comparison  a whole run of a chain or of mixtures: checked, scored, written to disk and sent to MLflow
"""
