"""Finds the largest batches that fit in device memory.

A plan is determined by how many rows of the longest length a batch holds. Several row counts are tried. For
each, the longest shape is compiled first, and the others only if it fits. By the time a plan is chosen, its
programs are compiled, and the run reuses them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from windrow.scoring.feed import BatchShape
from windrow.sizing.memory import DeviceMemory
from windrow.sizing.policy import DEFAULT_TOKENS_PER_BATCH, BatchPolicy
from windrow.sizing.search import largest_fitting
from windrow.tokens import Segments

MOST_TOKENS = {"cpu": DEFAULT_TOKENS_PER_BATCH}
"""The maximum number of tokens in a batch on CPUs, in total.

A few hundred tokens keep a CPU's cores busy; larger batches only exceed its caches.
"""

MOST_TOKENS_ELSEWHERE = 32_768
"""The maximum number of tokens per group on other platforms. Thousands of tokens fill the largest matrix
units, and some tens of thousands take long enough for the host to fill the next batch."""

Needs = Callable[[Any, Sequence[BatchShape]], list[int]]
"""Compiles shapes of a plan, and returns the bytes that each needs."""


@dataclass(frozen=True)
class SizedPlan:
    """A plan, and how it was sized.

    Attributes:
        plan: The plan.
        choice: ``memory_budget``, ``planned_bytes`` (the part of it that windrow uses), ``predicted_bytes``
            and ``tokens_per_batch``.
    """

    plan: Any
    choice: dict[str, int]


def fit_plan(
    policy: BatchPolicy,
    segments: Segments,
    memory: DeviceMemory,
    needs: Needs,
    plan_with: Callable[[BatchPolicy], Any],
    feed_with: Callable[[Any], Any],
) -> SizedPlan:
    """The plan with the largest batches that fit.

    Args:
        policy: The policy, without a batch size.
        segments: The segments to plan.
        memory: The available memory.
        needs: Compiles shapes, and returns the bytes that each needs.
        plan_with: Plans the segments under a policy with a batch size.
        feed_with: Makes the feed of a plan, whose shapes are compiled.

    Raises:
        ValueError: Not even one row of the longest length on each device fits.
    """
    sharding = memory.sharding
    length = policy.longest(segments)
    least, most = sharding.groups * length, _most_tokens(memory)
    looked_at: dict[int, tuple[Any, int]] = {}

    def tokens(rows: int) -> int:
        return max(most, least) if rows >= most // least else rows * least

    def look(rows: int) -> int:
        plan = plan_with(policy.sized(tokens(rows)))
        feed = feed_with(plan)
        shapes = list(dict.fromkeys(feed.shapes))
        longest, others = shapes[:1], shapes[1:]
        need = memory.largest_need(needs(feed, longest))
        if need <= memory.room and others:
            need = max(need, memory.largest_need(needs(feed, others)))
        looked_at[rows] = plan, need
        return need

    rows = largest_fitting(max(1, most // least), look, memory.room)
    if rows is None:
        raise memory.refusal(
            f"a batch of {sharding.groups} x {length} tokens, the smallest that holds the longest request,",
            looked_at[1][1],
            "raise memory_budget, lower max_length or, if the model has step, set chunk_length",
        )
    plan, need = looked_at[rows]
    choice = {
        "memory_budget": memory.budget,
        "planned_bytes": memory.room,
        "predicted_bytes": need,
        "tokens_per_batch": tokens(rows),
    }
    return SizedPlan(plan, choice)


def _most_tokens(memory: DeviceMemory) -> int:
    groups = memory.sharding.groups
    return MOST_TOKENS.get(memory.platform) or MOST_TOKENS_ELSEWHERE * groups
