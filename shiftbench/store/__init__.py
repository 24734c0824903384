"""Explanations on disk, and how several processes divide the work of computing them.

explanation.py   Explanation, its units, and the key of a unit: the digest of everything that it was computed from
work.py          Work: one unit that is to be computed, and computing the units of one method
store.py         Store: units by key; reading, writing, claiming, listing, verifying and pruning them
entry.py         one stored unit as a folder of two files, and how damage to it is detected
sharing.py       takes each unit from the store, or claims and computes it
"""
