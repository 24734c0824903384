"""Annotators: labels of concepts, that is of lists of words (docs/annotator.md).

lexical.py       labels by comparing a list's statistics with those of random lists: deterministic, offline
lexicon.py       the statistics, from word vectors, word lists and spelling
forms.py         affixes, stem, onset and rhyme of a word, from its spelling
chat.py          labels by a chat model; questions.py: what it is asked; asking.py, client.py: how the questions are
sent agreement.py     how far an annotator agrees with labels that were given by hand

Shape suffixes of this package: C concepts (lists of words), K words of a concept, V words of the vocabulary, N rows,
D width of a word vector, L labels, S seeds of a chat model, or random lists, T user tasks.
"""
