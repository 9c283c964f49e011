"""Finds as many slots as fit in device memory.

A slot permanently holds a row's memory, such as a key-value cache. The programs that process prompts and
generate tokens need more memory while they run. Several numbers of slots are tried: the programs for the
longest prompts are compiled first, and the others only if they fit. Nothing is run.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from windrow.generation.programs import Program
from windrow.sizing.memory import DeviceMemory
from windrow.sizing.search import largest_fitting

DEFAULT_SLOTS = 32
"""The number of slots if the policy does not set it."""

MOST_SLOTS = {"cpu": DEFAULT_SLOTS}
"""The maximum number of slots on CPUs, in total: a few dozen rows keep a CPU's cores busy."""

MOST_SLOTS_ELSEWHERE = 256
"""The maximum number of slots per group on other platforms: with more rows, the time of a step is dominated
by each row's own cache, not by reading the parameters, which rows share."""


class HasPrograms(Protocol):
    """The programs of a run, those for its longest prompts first."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs, in the order of their first use."""


Made = TypeVar("Made", bound=HasPrograms)

_FIRST = 3
"""The number of programs that belong to the longest prompts: creating slots, reading, decoding."""


def fit_slots(
    memory: DeviceMemory,
    requests: int,
    batching: Callable[[int], Made],
    need: Callable[[Sequence[Program]], int],
) -> tuple[Made, dict[str, int]]:
    """The batching with the largest number of slots that fits, and how it was sized.

    Args:
        memory: The available memory.
        requests: The number of requests per group; more slots would be unused.
        batching: Creates the batching for a number of slots.
        need: Compiles programs, and returns the largest number of bytes that one of them needs.

    Raises:
        ValueError: Not even one slot on each device fits.
    """
    groups = memory.sharding.groups
    looked_at: dict[int, tuple[Made, int]] = {}

    def look(slots: int) -> int:
        made = batching(slots * groups)
        programs = made.programs
        needed = need(programs[:_FIRST])
        if needed <= memory.room and programs[_FIRST:]:
            needed = max(needed, need(programs[_FIRST:]))
        looked_at[slots] = made, needed
        return needed

    slots = largest_fitting(min(requests, _most_slots(memory)), look, memory.room)
    if slots is None:
        made, needed = looked_at[1]
        longest = max(getattr(program, "length", 0) for program in made.programs)
        raise memory.refusal(
            f"generating in {groups} slots, the minimum, from prompts of up to {longest} tokens",
            needed,
            "raise memory_budget, lower max_length or max_new_tokens or, if the model has step, set a "
            "smaller chunk_length",
        )
    made, needed = looked_at[slots]
    return made, {
        "memory_budget": memory.budget,
        "planned_bytes": memory.room,
        "predicted_bytes": needed,
        "slots": slots * groups,
    }


def _most_slots(memory: DeviceMemory) -> int:
    groups = memory.sharding.groups
    return (
        -(-MOST_SLOTS[memory.platform] // groups) if memory.platform in MOST_SLOTS else MOST_SLOTS_ELSEWHERE
    )
