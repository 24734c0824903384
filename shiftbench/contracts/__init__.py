"""The base classes that the exchangeable parts of shiftbench derive from, and what a finding returns.

    explainer.py  Explainer, PairExplainer, WeightExplainer, and the Inputs that an explainer is given
    finding.py    Finding: compares base's explanation with tuned's
    claim.py      Claim: what a score of a finding is taken to mean
    result.py     Score, ScoreFact, Figure, Saliency, Result: what a finding returns
    annotator.py  Annotator: assigns labels to concepts
    ratings.py    Ratings: rates how far a response follows its instruction
    control.py    Control: supplies null models, on which findings are scored in place of the tuned model
    need.py       Need: a part of a pair that a finding requires

An explainer, finding, annotator, ratings or control derives from its class here, overrides the abstract methods, and
inherits the defaults of the others. Its file in conf/ names it by `_target_`; there is no registry.
"""
