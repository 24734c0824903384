"""Several tuned models of one base, scored group of prompts by group of prompts; see docs/chains.md.

inputs      the jobs (one for each tuned model) and the groups of prompts that a configuration requests
matrix      scoring every tuned model on every group
chain       the models as checkpoints of one chain of tunings: trajectories and forgetting
mixture     the models as instruction mixtures: their shifts skill by skill
comparison  a whole run of either: checked, scored, written to disk and sent to MLflow
"""
