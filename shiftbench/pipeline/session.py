"""Session: a running job with its models and weight files. Each model is loaded when a step first needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from shiftbench.models.pairs import PairModels
from shiftbench.models.tokenizer import digest as tokenizer_digest
from shiftbench.models.tokenizer import load_tokenizer
from shiftbench.models.weights import FileWeights
from shiftbench.pipeline.gathering import Gatherer
from shiftbench.pipeline.job import Job


@dataclass(frozen=True)
class Session:
    """What the steps of a running job share. models: base and tuned, each loaded when it is first read."""

    job: Job
    models: PairModels
    gatherer: Gatherer

    @cached_property
    def base_weights(self) -> FileWeights:
        """The base model's weight files, for findings that load no model."""
        return FileWeights(self.job.pair.base)

    @cached_property
    def tuned_weights(self) -> FileWeights:
        """The tuned model's weight files."""
        return FileWeights(self.job.pair.tuned)

    def identity(self) -> dict[str, str]:
        """The fields of "pair" in scores.json that say which two models are compared, and in which dtype.

        The digests are of the loaded models where some finding needs a loaded model, else of the weight files.
        """
        if self.job.needs_models:
            base, tuned = self.models.base, self.models.tuned
            return {
                "base": base.name,
                "tuned": tuned.name,
                "base_weights": base.weights_digest,
                "tuned_weights": tuned.weights_digest,
                "tokenizer": tuned.tokenizer_digest,
                "dtype": base.dtype,
            }
        pair = self.job.pair
        return {
            "base": pair.base.name,
            "tuned": pair.tuned.name,
            "base_weights": self.base_weights.digest,
            "tuned_weights": self.tuned_weights.digest,
            "tokenizer": tokenizer_digest(load_tokenizer(pair.tuned)),
            "dtype": pair.base.dtype,
        }
