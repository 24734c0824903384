"""Words: vocabularies, the packaged word lists, a model's embeddings of words, and static word vectors.

Shape suffixes of this package: V words (or tokens, for a model's embeddings), D width, N rows.
"""

from shiftbench.words.embeddings import word_embeddings, word_ids
from shiftbench.words.lists import word_lists
from shiftbench.words.vectors import StaticVectors
from shiftbench.words.vocabulary import Vocabulary, verbs

__all__ = ["StaticVectors", "Vocabulary", "verbs", "word_embeddings", "word_ids", "word_lists"]
