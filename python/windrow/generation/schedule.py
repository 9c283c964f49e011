"""Decides which request enters which slot and when.

Requests wait in the order of the run. A row enters a free slot of its own group, and
several rows enter at once, because one program prefills several prompts. A slot counts
as free as soon as its row's last token has been dispatched, even before the host has
seen it. Nothing here depends on time, so hosts that see the same tokens make the same
decisions.

    2 groups of 3 slots (a dot is a free one); at most 2 requests enter at once, one per group:

        7 . . | 2 9 4      group 1 is full: nothing enters until more slots are free
        7 . . | . 9 4      two requests enter, one in each group
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

FREE = -1


@dataclass(frozen=True)
class Entry:
    """A request that enters ``slot``, and its row in the arrays of the prefill."""

    request: int
    row: int
    slot: int


@dataclass
class Schedule:
    """The requests in each slot.

    Attributes:
        groups: The number of groups that slots and entering rows are split into.
        slots: The number of slots, a multiple of ``groups``.
        entering: The maximum number of rows that enter at once, a multiple of ``groups``.
        waiting: Requests that have not entered yet, in order.
        owners: The request in each slot, or ``FREE``.
        due: How many more tokens each slot's request may need.
    """

    groups: int
    slots: int
    entering: int
    waiting: deque[int]
    owners: list[int] = field(init=False)
    due: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Starts with all slots free."""
        self.owners, self.due = [FREE] * self.slots, [0] * self.slots

    @property
    def busy(self) -> int:
        """How many slots hold a request."""
        return self.slots - self.owners.count(FREE)

    def enter(self, limits: Sequence[int]) -> list[Entry]:
        """Assigns slots to the next requests, if enough are free.

        Args:
            limits: The maximum number of new tokens of each request, by its index.

        Returns:
            The requests that enter. It is empty if none is waiting, or if the groups' free slots cannot take
            a whole batch, unless all slots are free, or enough for two batches.
        """
        places = self._places()
        free = self.slots - self.busy
        wanted = min(self.entering, len(self.waiting))
        if not wanted or (len(places) < wanted and free < 2 * self.entering and self.busy):
            return []
        entries = []
        for row, slot in places[:wanted]:
            request = self.waiting.popleft()
            self.owners[slot], self.due[slot] = request, limits[request]
            entries.append(Entry(request, row, slot))
        return entries

    def ask(self, tokens: int) -> list[int]:
        """Records a dispatch of ``tokens`` tokens per slot; returns the request in each slot, or ``FREE``.

        A slot becomes free once its row's last token has been dispatched.
        """
        owners = self.owners.copy()
        for slot, owner in enumerate(owners):
            self.due[slot] -= tokens
            if owner != FREE and self.due[slot] <= 0:
                self.owners[slot] = FREE
        return owners

    def leave(self, request: int) -> int | None:
        """Frees the slot of a finished request and returns it, or ``None`` if it was freed before."""
        if request not in self.owners:
            return None
        slot = self.owners.index(request)
        self.owners[slot] = FREE
        return slot

    def shrink(self, slots: int) -> list[int] | None:
        """Moves the last requests to ``slots`` slots, if none is waiting and they fit.

        Returns:
            For each new slot, the old slot whose row it takes, numbered within its group; one past the last
            if it stays empty. ``None`` if a request is waiting or the requests do not fit.
        """
        held, fewer = self.slots // self.groups, slots // self.groups
        taken = []
        for group in range(self.groups):
            busy = [at for at in range(held) if self.owners[group * held + at] != FREE]
            taken.append([*busy, *[held] * (fewer - len(busy))])
        if self.waiting or any(len(row) > fewer for row in taken):
            return None
        places = [(group, at) for group, row in enumerate(taken) for at in row]
        self.owners = [FREE if at == held else self.owners[group * held + at] for group, at in places]
        self.due = [0 if at == held else self.due[group * held + at] for group, at in places]
        self.slots = slots
        return [at for _, at in places]

    def _places(self) -> list[tuple[int, int]]:
        """The rows and slots available to entering requests, round-robin over groups."""
        held, rows = self.slots // self.groups, self.entering // self.groups
        by_group = []
        for group in range(self.groups):
            free = [slot for slot in range(group * held, (group + 1) * held) if self.owners[slot] == FREE]
            by_group.append([(group * rows + row, slot) for row, slot in enumerate(free[:rows])])
        return [places[turn] for turn in range(rows) for places in by_group if turn < len(places)]
