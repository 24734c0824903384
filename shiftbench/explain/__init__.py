"""Methods that look inside a model, a file each. Their units go to the store, and findings read them from there.

    attribution.py   Attribution: how important each prompt token is for each response token
    position.py      PlacedAttribution: Attribution of each prompt with its instruction first, and with it last
    attention.py     WordPairs: the word pairs that attention heads encode
    feedforward.py   Concepts: the concepts that principal components of feed-forward networks encode
    rotation.py      Rotation: which share of a pair's weight change is a rotation
    faithfulness.py  Faithfulness: what masking tokens in the order of their importance does to the response
    key_parts.py     KeyParts: what masking the key parts of an instruction does to the response
    response.py      GreedyResponse: the response itself, decoded greedily

What these files share:

    importance.py    importance of prompt tokens by each definition, and probabilities under masks, as functions
    keys.py          what a unit's key is computed from, and random draws that base and tuned share
    cost.py          floating-point operations, for estimates
    reading.py       the word embeddings in which directions are read as words
    finite.py        the error where a model computes NaN or inf
"""
