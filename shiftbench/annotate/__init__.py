"""Annotators: they give labels to concepts. A concept is a list of words (docs/annotator.md).

lexical.py       gives labels where a list's statistics exceed those of most random lists: deterministic, offline
lexicon.py       the statistics of a list, from word vectors, word lists and spelling
forms.py         prefix, suffix, stem, onset and rhyme of a word, from its spelling
chat.py          gives labels by a chat model
questions.py     the questions to the chat model, and how its answers are parsed
asking.py        sends questions to an endpoint, and stores the answers
client.py        the HTTP client, with limits on each reply
agreement.py     how far an annotator agrees with the labels of a reader

Shape suffixes of this package: C concepts (lists of words), K words of a concept, V words of the vocabulary, N rows,
D width of a word vector, L labels, G parts of the random lists, S seeds of a chat model, T user tasks.
"""
