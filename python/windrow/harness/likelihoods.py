"""Turns log-likelihood requests into segments to score."""

from dataclasses import dataclass

import numpy as np

from windrow.grouping import with_shifted_reads
from windrow.harness.requests import Requests
from windrow.harness.scoring import ScoringJob
from windrow.scoring import known_tokens
from windrow.tokens import Segments, Tokenizer, loglikelihood_segments, rolling_segments
from windrow.tokens.segments import BadRequest


@dataclass(frozen=True)
class Likelihoods:
    """Tokenizes requests for one model.

    Attributes:
        tokenizer: The model's tokenizer.
        max_length: The maximum number of tokens that the model can take.
        vocabulary: The number of tokens that the model has logits for.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip invalid requests.
        shifted_reads: Whether to read equal inputs that are split at different places the way lm_eval does.
    """

    tokenizer: Tokenizer
    max_length: int | None
    vocabulary: int
    on_bad_request: BadRequest
    shifted_reads: bool

    def of_pairs(self, asked: Requests) -> ScoringJob:
        """The job for ``loglikelihood`` requests, each with a context and a continuation."""
        pairs = asked.arguments
        own = loglikelihood_segments(
            self.tokenizer, pairs, max_length=self.max_length, on_bad_request=self.on_bad_request
        )
        own = self._known(own)
        if not self.shifted_reads:
            return _job(asked, own)
        segments, counted = with_shifted_reads(
            own, lambda which: loglikelihood_segments(self.tokenizer, [pairs[index] for index in which])
        )
        return ScoringJob(asked, own, segments, counted)

    def of_texts(self, asked: Requests) -> ScoringJob:
        """The job for ``loglikelihood_rolling`` requests, each with a text."""
        own = rolling_segments(
            self.tokenizer,
            [arguments[0] for arguments in asked.arguments],
            max_length=self.max_length,
            on_bad_request=self.on_bad_request,
        )
        return _job(asked, self._known(own))

    def _known(self, segments: Segments) -> Segments:
        """The segments whose tokens are all in the model's vocabulary."""
        return known_tokens(segments, self.vocabulary, self.on_bad_request)


def _job(asked: Requests, own: Segments) -> ScoringJob:
    """A job without shifted reads: every segment belongs to a request, and counts."""
    return ScoringJob(asked, own, own, np.ones(len(own), np.bool_))
