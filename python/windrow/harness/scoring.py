"""Scores the segments of log-likelihood requests, and reports each request's total once it is complete."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from windrow.bad_requests import LISTED, BadRequestsError
from windrow.harness.requests import Requests
from windrow.scoring import NOT_A_NUMBER, Scorer, Scores, ScoringPlan
from windrow.sharding import check_agreement, host_count, is_first_host
from windrow.tokens import Segments
from windrow.warning import warn

HOPELESS = 100
"""A run stops after this many failed requests if none has succeeded."""

Finished = Callable[[int, float, bool], None]
"""Called with a request's index, log-likelihood and greedy flag."""


@dataclass(frozen=True)
class ScoringJob:
    """Requests and the segments to score for them.

    Attributes:
        requests: The requests.
        own: The requests' own segments.
        segments: All segments: ``own``, then those for shifted reads (:mod:`windrow.grouping`).
        counted: ``bool[n]``, which segments' log-likelihoods count towards their requests.
    """

    requests: Requests
    own: Segments
    segments: Segments
    counted: NDArray[np.bool_]

    def without(self, requests: Collection[int]) -> "ScoringJob":
        """The job without requests whose results are already known."""
        if not requests:
            return self
        left, own = (
            np.flatnonzero(~np.isin(each.requests, list(requests))) for each in (self.segments, self.own)
        )
        return replace(
            self, own=self.own.only(own), segments=self.segments.only(left), counted=self.counted[left]
        )

    def run(self, scorer: Scorer, plan: ScoringPlan, on_bad_request: str, finished: Finished) -> set[int]:
        """Scores all segments and reports each request's total.

        If a request's log-likelihood is NaN, only that request fails; all others are scored and reported.

        Args:
            scorer: Runs the model.
            plan: The plan of the segments.
            on_bad_request: ``"raise"``, or ``"skip"`` to warn about failed requests.
            finished: Called as soon as a request has succeeded.

        Returns:
            The requests that failed.

        Raises:
            BadRequestsError: Requests failed. Either all others are done, or ``HOPELESS`` requests failed
                before any succeeded.
        """
        if host_count() > 1:
            work = {"encoded requests": self.segments.fingerprint, "plan": plan.fingerprint}
            with scorer.clock.phase("plan"):
                check_agreement([], work, call="JaxLM")
        lengths, totals = self.segments.input_lengths, _Totals(self)
        skip = on_bad_request == "skip"

        def known(which: NDArray[np.int64], scores: Scores) -> None:
            for request in totals.add(which, scores):
                finished(request, float(totals.sums[request]), bool(totals.greedy[request]))
            if not (skip or totals.any_done) and len(totals.failed) >= HOPELESS:
                raise _error(totals.failed)
            bar.update(int(lengths[which].sum()))

        with tqdm(
            total=int(lengths.sum()),
            desc=f"Running {self.requests.kind} requests",
            unit="tok",
            unit_scale=True,
            disable=not is_first_host(),
        ) as bar:
            scorer.run(plan, self.segments, known)
        if totals.failed and not skip:
            raise _error(totals.failed)
        self._warn_of(totals.failed)
        return totals.failed

    def _warn_of(self, failed: set[int]) -> None:
        if failed and is_first_host():
            listed = ", ".join(self.requests.name(request) for request in sorted(failed)[:LISTED])
            more = f" and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
            warn(f"scored as failures: {listed}{more}; {NOT_A_NUMBER}")


class _Totals:
    """The totals of requests, accumulated as the scores of their segments arrive."""

    def __init__(self, job: ScoringJob) -> None:
        count = job.segments.request_count
        self._job = job
        self._waiting = np.bincount(job.segments.requests, minlength=count)
        self.sums, self.greedy = np.zeros(count), np.ones(count, np.bool_)
        self.failed: set[int] = set()
        self.any_done = False

    def add(self, which: NDArray[np.int64], scores: Scores) -> list[int]:
        """Adds the scores of some segments; returns the requests that this completes."""
        job, part = self._job, scores.only(which)
        requests = job.segments.requests[which]
        sums = np.where(job.counted[which], part.sums(), 0.0)
        np.add.at(self.sums, requests, sums)
        np.logical_and.at(self.greedy, requests, part.greedy() | (which >= len(job.own)))
        np.subtract.at(self._waiting, requests, 1)
        self.failed.update(requests[np.isnan(sums)].tolist())
        complete = np.unique(requests[self._waiting[requests] == 0])
        done = [request for request in complete.tolist() if request not in self.failed]
        self.any_done = self.any_done or bool(done)
        return done


def _error(failed: set[int]) -> BadRequestsError:
    return BadRequestsError(dict.fromkeys(sorted(failed), NOT_A_NUMBER))
