"""Counts over all runs of a model."""

from dataclasses import asdict
from typing import Any

from windrow.generation import Generator
from windrow.scoring import Scorer, ScoringPlan
from windrow.sizing.policy import sharing
from windrow.tokens import Segments

_COUNTS = (
    "requests", "segments", "rows", "batches", "real_tokens", "row_tokens", "padding_tokens",
    "device_tokens", "truncated", "shared", "skipped",
)  # fmt: skip


class Totals:
    """Requests, tokens, batches and shapes, summed over runs."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._shapes: list[list[int]] = []

    def add_scored(self, plan: ScoringPlan, own: Segments, failed: int = 0, known: int = 0) -> None:
        """Adds a scoring run.

        Args:
            plan: The plan that ran.
            own: The requests' own segments, which come first in the plan.
            failed: How many requests had a NaN log-likelihood.
            known: How many requests were not run, since their results were known.
        """
        statistics, counts = plan.statistics, self._counts
        counts["requests"] += own.request_count - known
        counts["segments"] += len(own)
        counts["real_tokens"] += len(own.tokens) - len(own)
        counts["truncated"] += len(own.report.truncated)
        counts["skipped"] += len(own.skipped) + failed
        counts["shared"] += _shared(plan, len(own))
        for name in ("rows", "batches", "row_tokens", "padding_tokens", "device_tokens"):
            counts[name] += statistics[name]
        self._shapes += [shape for shape in statistics["shapes"] if shape not in self._shapes]

    def add_generated(self, requests: int, truncated: int, skipped: int) -> None:
        """Adds a generation run."""
        self._counts["requests"] += requests
        self._counts["truncated"] += truncated
        self._counts["skipped"] += skipped

    def counts(self) -> dict[str, Any]:
        """All counts by name, and ``shapes``, ``[rows, length]`` each."""
        return {**self._counts, "shapes": [list(shape) for shape in self._shapes]}


def run_report(totals: Totals, scorer: Scorer, generator: Generator) -> dict[str, Any]:
    """The report of a model's runs so far; see :meth:`windrow.JaxLM.report`."""
    generation, clock, devices = generator.report(), scorer.clock, scorer.sharding.mesh.devices.flat
    choices = {"scoring": scorer.choice, "generation": generator.choice}
    return {
        **totals.counts(),
        "devices": {
            "count": len(devices),
            "kind": devices[0].device_kind,
            "hosts": len({device.process_index for device in devices}),
        },
        **({"layout": scorer.layout} if scorer.layout else {}),
        "seconds": dict(clock.seconds),
        "device_seconds": {"scoring": asdict(clock.scoring), "generation": asdict(clock.generation)},
        **({"generation": generation} if generation["requests"] else {}),
        **(
            {"auto": {name: choice for name, choice in choices.items() if choice}}
            if generator.policy.sizes_itself
            else {}
        ),
    }


def _shared(plan: ScoringPlan, own: int) -> int:
    """How many of a plan's first ``own`` segments share an earlier segment's place in a row."""
    if own == plan.segment_count:
        return int(plan.statistics["shared_segments"])
    return int(sharing(plan, own).sum())
