"""Certification: how often verdicts are false on pairs without a shift, and how often a planted shift is found.

trials.py          which pairs are made, and in which order
null_models.py     pairs whose models differ by no instruction tuning (contracts.claim.NullPair)
planted_weights.py shifts that are planted in the weights of a model
planted_units.py   shifts that are planted in the explanations of a model
scoring.py         one trial: its models are made, written to disk and scored by the pipeline
running.py         all trials, one after the other; the outcome of each finished trial is kept
tally.py           the shares of false verdicts and of found shifts, as a document and as tables

docs/certification.md describes the trials and has their outcome.
"""
