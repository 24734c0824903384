"""Passes through a model: what a change of the prompt's embeddings does to the response's probabilities."""
