"""Job: everything that one run of `shiftbench score` was asked for, and building it from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from shiftbench.config.instantiation import instantiate
from shiftbench.contracts.control import Control
from shiftbench.contracts.finding import Finding
from shiftbench.contracts.need import Need
from shiftbench.errors import InputError
from shiftbench.models.pairs import Pair
from shiftbench.prompts import Prompt
from shiftbench.store.store import Store
from shiftbench.words import StaticVectors, Vocabulary

RESPONSE_MODES = ("shared", "own", "reference")


@dataclass(frozen=True)
class Responses:
    """Which responses are explained.

    mode: 'shared' (the tuned model's greedy responses, for both models), 'own' (each model's), or 'reference' (those
    given with the prompts). beside: a second mode that is reported next to it, or None. max_new_tokens: the longest
    response that is explained, in tokens.
    """

    mode: str
    beside: str | None
    max_new_tokens: int

    def __post_init__(self) -> None:
        for field, mode in (("response.mode", self.mode), ("response.beside", self.beside)):
            if mode is not None and mode not in RESPONSE_MODES:
                raise InputError(f"{field}={mode!r} is not a response mode; choose from {', '.join(RESPONSE_MODES)}")
        if not isinstance(self.max_new_tokens, int) or self.max_new_tokens < 1:
            raise InputError(f"response.max_new_tokens={self.max_new_tokens} must be a whole number, at least 1")

    @property
    def modes(self) -> list[str]:
        """The mode, and the one beside it where there is one that differs."""
        return list(dict.fromkeys(mode for mode in (self.mode, self.beside) if mode is not None))


@dataclass(frozen=True)
class Job:
    """Everything that one run of `shiftbench score` was asked for.

    vectors: static word vectors; None where each model's own input embeddings stand in for them. template: one of
    encoding.TEMPLATES. control: gives null models; None: scores stand for themselves. group: whether the prompts are
    one group of a larger job, as in chains and mixtures: the responses of a group may all be empty.
    """

    pair: Pair
    prompts: Sequence[Prompt]
    vocabulary: Vocabulary
    vectors: StaticVectors | None
    findings: Mapping[str, Finding]
    responses: Responses
    template: str
    store: Store
    control: Control | None = None
    group: bool = False

    def needs(self, *needs: Need) -> bool:
        """Whether some finding needs one of these of the pair."""
        return any(not finding.needs.isdisjoint(needs) for finding in self.findings.values())


def build(config: DictConfig) -> Job:
    """The job that a resolved configuration describes. Raises InputError; loads no model."""
    findings: dict[str, Finding] = instantiate(config.findings)
    for name, finding in findings.items():
        if not isinstance(finding, Finding):
            raise InputError(
                f"findings.{name}: {type(finding).__name__} must derive from shiftbench.contracts.finding.Finding "
                "(docs/finding.md)"
            )
    return Job(
        pair=instantiate(config.pair),
        prompts=instantiate(config.dataset)(),
        vocabulary=instantiate(config.vocabulary),
        vectors=instantiate(config.vectors),
        findings=findings,
        responses=Responses(**config.response),
        template=str(config.template),
        store=Store(config.store.path),
        control=instantiate(config.control),
    )
