"""What the exchangeable parts of shiftbench promise each other: one file a kind of part, and what a finding returns.

    explainer.py  Explainer, PairExplainer, WeightExplainer, and the Inputs that an explainer is given
    finding.py    Finding: compares base's explanation with tuned's
    result.py     Score, ScoreFact, Figure, Saliency, Result: what a finding returns
    annotator.py  Annotator: gives labels to concepts
    ratings.py    Ratings: says how far a response follows its instruction
    control.py    Control: gives null models, which stand in the tuned model's place
    need.py       Need: what a finding needs of a pair

A part derives from one of these classes, overrides what is abstract, and inherits the defaults of the rest. A part is
found by the `_target_` of its file in conf/; there is no registry.
"""
