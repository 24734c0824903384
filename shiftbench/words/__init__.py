"""Words: which ones are looked at, their embeddings in a model, and their static vectors."""

from shiftbench.words.embeddings import word_embeddings, word_ids
from shiftbench.words.lists import word_lists
from shiftbench.words.vectors import StaticVectors
from shiftbench.words.vocabulary import Vocabulary, verbs

__all__ = ["StaticVectors", "Vocabulary", "verbs", "word_embeddings", "word_ids", "word_lists"]
