"""The largest batches that the devices have memory for.

The plan follows from how many rows of its longest length a batch holds. Plans
with more and fewer rows are looked at; each one's longest shape is compiled first,
the others only if that fits. What the plan that is taken needs was compiled by then, and
is run as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from windrow.planning import Plan
from windrow.policy import DEFAULT_TOKENS_PER_BATCH, BatchPolicy
from windrow.scoring.feed import BatchShape, Feed
from windrow.sharding import DeviceMemory
from windrow.sizing import largest_fitting
from windrow.tokens import Segments

MOST_TOKENS = {"cpu": DEFAULT_TOKENS_PER_BATCH}
"""The most tokens of a batch on one group's device, by platform; of all of them together on CPUs.

A CPU's cores are busy with some hundreds of tokens; larger batches only leave its caches.
"""

MOST_TOKENS_ELSEWHERE = 32_768
"""The same on other platforms, where thousands of tokens fill the largest matrix units, and
some ten thousands take long enough for a host to fill the next batch."""

Needs = Callable[[Feed, Sequence[BatchShape]], list[int]]
"""What some shapes of a plan need, in bytes; they are compiled for that."""


@dataclass(frozen=True)
class SizedPlan:
    """A plan, and what decided its size.

    Attributes:
        plan: The plan.
        choice: ``memory_budget``, ``planned_bytes`` (the part of it that is planned for),
            ``predicted_bytes`` and ``tokens_per_batch``.
    """

    plan: Plan
    choice: dict[str, int]


def fit_plan(
    policy: BatchPolicy,
    segments: Segments,
    memory: DeviceMemory,
    needs: Needs,
    plan_with: Callable[[BatchPolicy], Plan],
) -> SizedPlan:
    """The plan with the largest batches that fit.

    Args:
        policy: Says all but the size.
        segments: What is to be planned.
        memory: What there is.
        needs: Compiles shapes and tells what they need.
        plan_with: Plans the segments under a policy that has a size.

    Raises:
        ValueError: Not even one row of the longest length on each device fits.
    """
    sharding = memory.sharding
    length = policy.longest(segments)
    least, most = sharding.groups * length, _most_tokens(memory)
    looked_at: dict[int, tuple[Plan, int]] = {}

    def tokens(rows: int) -> int:
        return max(most, least) if rows >= most // least else rows * least

    def look(rows: int) -> int:
        plan = plan_with(policy.sized(tokens(rows)))
        feed = Feed(plan, segments, sharding)
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
            f"a batch of {sharding.groups} x {length} tokens, the least that holds the longest request,",
            looked_at[1][1],
            "give a larger memory_budget, a smaller max_length, or, for a model with step, chunk_length",
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
