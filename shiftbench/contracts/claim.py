"""Claim: a statement about the tuned model that one score of a finding can support (docs/verdicts.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class NullPair(Enum):
    """A kind of pair of which a claim is false, because its two models differ by no instruction tuning.

    `shiftbench certify` scores such pairs and counts how often a claim is called supported or opposite.
    """

    NOISE = "base and base plus normal noise"
    ROUNDING = "base and base rounded to bfloat16"
    PERMUTED = "base and base plus tuning's change at random places"
    CONTINUED = "base and base trained on plain text"
    RANDOM = "a random network and the same plus noise"


EVERY_NULL_PAIR = frozenset(NullPair)


@dataclass(frozen=True)
class Claim:
    """What a score is taken to mean, and what it must show before it is taken so.

    score: the name of the score. short: the claim in few words, for lists, with the tuned model as its subject.
    statement: the claim as a clause, for example 'the tuned model recognises the instruction more than the base model
    does'. opposite: the clause that holds where the score lies below its null. observations: what `Score.n` counts, in
    the plural, for example 'prompts'. floor: the least n with which the claim is judged; with fewer the verdict
    is 'not trustworthy', and with 0 'not applicable'.

    zero_is_null: whether 0 means no effect. If so, the score's interval must leave out 0, and that of its excess over
    the null models must too, since a random change of the same size can move the score. If not, only the excess counts.

    attributions: whether the score rests on attributions of both models. static_vectors: whether it can be judged only
    where words have static vectors. specific: names of further scores; the claim is supported only where the intervals
    of all of them lie above 0. Those with an n below the floor are skipped, but one at least must remain. not_specific:
    the clause that holds where one of them does not. null_pairs: the kinds of pairs of which the claim is false.
    """

    score: str
    short: str
    statement: str
    opposite: str
    observations: str
    floor: int
    zero_is_null: bool
    attributions: bool = False
    static_vectors: bool = False
    specific: Sequence[str] = ()
    not_specific: str = ""
    null_pairs: frozenset[NullPair] = EVERY_NULL_PAIR
