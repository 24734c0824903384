"""Ratings: they say how far responses follow their instructions, from a file (file.py) or by a chat model (judge.py).

scale.py has the scale of ratings, and reads a line of a file of ratings.
"""
