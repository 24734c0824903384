"""Checks a paper by the explanations that it published: reads them and computes its tables again (docs/published.md).

`folder.py` and `maps.py` read the files, `alignment.py` and `comparable_prompts.py` find the instruction among a
prompt's pieces, `scores.py` and `comparison.py` compute scores and tests, `tables.py`, `figures.py` and `results.py`
present them, and `reproduction.py` calls all of these in order.
"""
