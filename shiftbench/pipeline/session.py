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
    """What the steps of a running job share.

    models: base and tuned, each loaded when it is first read. gatherer: makes explanations, and collects notes on them.
    """

    job: Job
    models: PairModels
    gatherer: Gatherer

    @cached_property
    def base_weights(self) -> FileWeights:
        """The base model's weight files, read tensor by tensor by methods that need no loaded model."""
        return FileWeights(self.job.pair.base)

    @cached_property
    def tuned_weights(self) -> FileWeights:
        """The tuned model's weight files, read tensor by tensor by methods that need no loaded model."""
        return FileWeights(self.job.pair.tuned)

    def identity(self) -> dict[str, str]:
        """The fields of "pair" in scores.json that say which two models are compared, and in which dtype.

        They are the models' names, the digests of their weights, the digest of the tuned model's tokenizer, and base's
        dtype. The digests of weights are of the loaded models where some finding needs a loaded model, else of the
        weight files.
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
