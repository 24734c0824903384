"""Ratings: how far responses follow their instructions, from a file (file.py) or by a chat model (judge.py)."""
