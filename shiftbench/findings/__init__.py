"""Findings. Each compares base's explanation with tuned's explanation and returns scores; each has a file of its own.

    instruction_recognition.py   finding 1: the tuned model's responses rest more on the instruction
    instruction_verbs.py         finding 2: attention heads gained word pairs with verbs of instructions
    concept_rotation.py          finding 3: concepts of feed-forward networks moved toward user tasks
    instruction_position.py      probe: finding 1 with the instruction before and after its context
    key_part_gain.py             probe: what masking the key parts of the instruction costs the response
    attribution_faithfulness.py  check: whether attributions find the tokens that matter
    followed_instructions.py     check: finding 1 where the response follows the instruction, and where it does not

What these files share:

    change.py          the score of a mean paired difference
    specificity.py     importance density in parts of a prompt, and tests of its changes
    length.py          recognition scores that count only the first response tokens
    concept_labels.py  tables of the concepts' labels
    facts.py           what each score of a run means, for the report
    null.py            the place of a finding's scores among the scores of null models
"""
