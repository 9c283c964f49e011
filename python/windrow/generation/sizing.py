"""As many slots as the devices have memory for.

The slots hold each row's memory, a key-value cache for instance, all the time;
besides, the programs that read prompts and make tokens need some while they run.
Batchings with more and fewer slots are looked at: the programs of the longest
prompts are compiled first, the others only if those fit. Nothing runs for it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from windrow.generation.programs import Program
from windrow.sharding import DeviceMemory
from windrow.sizing import largest_fitting

DEFAULT_SLOTS = 32
"""How many slots there are where the policy does not say."""

MOST_SLOTS = {"cpu": DEFAULT_SLOTS}
"""The most slots by platform, on all devices together: a CPU's cores are busy with some tens of rows."""

MOST_SLOTS_ELSEWHERE = 256
"""The most slots of one group's device on other platforms: with more rows than these, a step's
time goes into each row's own cache and no longer into reading the parameters, which rows share."""


class HasPrograms(Protocol):
    """All programs of a run, those of its longest prompts first."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """In the order in which they are needed first."""


Made = TypeVar("Made", bound=HasPrograms)

_FIRST = 3
"""How many of the programs are those of the longest prompts: of beginning, reading and making tokens."""


def fit_slots(
    memory: DeviceMemory,
    requests: int,
    batching: Callable[[int], Made],
    need: Callable[[Sequence[Program]], int],
) -> tuple[Made, dict[str, int]]:
    """The batching with the most slots that fit, and what decided it.

    Args:
        memory: What there is.
        requests: How many requests there are for each group, which no more slots are of use to.
        batching: Makes the batching of so many slots.
        need: Compiles programs and tells what the neediest needs, in bytes.

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
            f"generating in {groups} slots, the least there can be, from prompts of {longest} tokens",
            needed,
            "give a larger memory_budget, a smaller max_length or most new tokens, or, for a model "
            "with step, chunk_length",
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
