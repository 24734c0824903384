"""Methods that explain a model or a pair, a file each. Their units go to the store; findings read them from there.

    attribution.py   Attribution: how important each prompt token is for each response token
    position.py      PlacedAttribution: Attribution of each prompt with its instruction first, and with it last
    attention.py     WordPairs: the word pairs that attention heads encode
    feedforward.py   Concepts: the concepts that principal components of feed-forward networks encode
    rotation.py      Rotation: which share of a pair's weight change is a rotation
    faithfulness.py  Faithfulness: how probable the response is with tokens masked in the order of their importance
    key_parts.py     KeyParts: how probable the response is with the key parts of the instruction masked
    response.py      GreedyResponse: the response itself, decoded greedily

What these files share:

    importance.py    importance of prompt tokens by each definition, and probabilities under masks, as functions
    gradients.py     gradients at the prompt, along a path to it, and around it, from which definitions are built
    methods.py       attribution methods by name, such as occlusion:mean
    masks.py         what takes the place of a masked prompt token
    passes.py        what every pass over one text needs
    keys.py          what a unit's key is computed from, and random draws that base and tuned share
    cost.py          floating-point operations, for estimates
    reading.py       the word embeddings in which directions are read as words
    finite.py        the error where a model computes NaN or inf
"""
