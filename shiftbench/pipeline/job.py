"""Job: what one run of `shiftbench score` is to score and how, and `build`, which makes it from a configuration."""

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
from shiftbench.readers.numbers import as_typed, check_whole
from shiftbench.store.store import Store
from shiftbench.words import StaticVectors, Vocabulary

RESPONSE_MODES = ("shared", "own", "reference")


@dataclass(frozen=True)
class Responses:
    """Which responses are explained.

    mode: 'shared' (the tuned model's greedy responses, explained in both models), 'own' (each model's own greedy
    responses), or 'reference' (the responses given with the prompts). beside: a second mode, reported in addition, or
    None. max_new_tokens: the length in tokens at which responses are cut, at least 1. Raises InputError for other
    values.
    """

    mode: str
    beside: str | None
    max_new_tokens: int

    def __post_init__(self) -> None:
        for field, mode, known in (
            ("response.mode", self.mode, RESPONSE_MODES),
            ("response.beside", self.beside, (*RESPONSE_MODES, None)),
        ):
            if mode not in known:
                raise InputError(
                    f"{field}={as_typed(mode)} is not a response mode; choose from {', '.join(RESPONSE_MODES)}"
                )
        check_whole("response.max_new_tokens", self.max_new_tokens, 1)

    @property
    def modes(self) -> list[str]:
        """The modes on which findings are scored: `mode`, then `beside` unless it is None or the same mode."""
        return list(dict.fromkeys(mode for mode in (self.mode, self.beside) if mode is not None))


@dataclass(frozen=True)
class Job:
    """What one run of `shiftbench score` is to score, and how.

    vectors: static word vectors; None where input embeddings are used instead, each model's own for word pairs, and
    base's for the labels that are compared. findings: by their names in the configuration. template: one of
    encoding.TEMPLATES. store: where explanations are read from and written to. control: supplies null models; None:
    scores are not compared with null models. group: whether the prompts are one group of a larger job (chains and
    mixtures have several); a group whose responses are all empty is not an error.
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

    @property
    def needs_models(self) -> bool:
        """Whether some finding needs a loaded model. Base and tuned are both loaded then."""
        return self.needs(Need.BASE, Need.TUNED)

    def needs(self, *needs: Need) -> bool:
        """Whether some finding has at least one of these needs."""
        return any(not finding.needs.isdisjoint(needs) for finding in self.findings.values())


def build(config: DictConfig) -> Job:
    """The job that a resolved configuration describes. Raises InputError for an invalid value.

    Reads the prompts, the vocabulary and the word vectors, and opens the store. Loads no model.
    """
    findings: dict[str, Finding] = instantiate(config.findings)
    for name, finding in findings.items():
        if not isinstance(finding, Finding):
            raise InputError(
                f"findings.{name}: {type(finding).__name__} must derive from shiftbench.contracts.finding.Finding "
                "(docs/finding.md)"
            )
    dataset = instantiate(config.dataset)
    prompts = dataset()
    if not prompts:
        raise InputError(
            f"dataset: {type(dataset).__name__} gives no prompt; it must give at least one (docs/dataset.md)"
        )
    pair, control = instantiate(config.pair), instantiate(config.control)
    return Job(
        pair=pair,
        prompts=prompts,
        vocabulary=instantiate(config.vocabulary),
        vectors=instantiate(config.vectors),
        findings=findings,
        responses=Responses(**config.response),
        template=str(config.template),
        store=Store(config.store.path),
        control=control if control is None else control.for_tuned(pair.tuned),
    )
