"""Which request enters which slot, and when: the same on every host.

Requests wait longest first. A row enters a free slot of its own group; rows enter
a few at a time, as reading prompts is one program for several. What is known
ahead is used: a slot is free as soon as its row's last token has been asked for,
though nobody has looked at it yet. Nothing here depends on time, so hosts that
see the same tokens decide alike.

    2 groups of 3 slots, 2 rows enter at once, the slots' requests are

        7 . .   2 9 4      group 1 is full: nobody enters, unless much is free
        7 . .   . 9 4      both rows enter, one in each group
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

FREE = -1


@dataclass(frozen=True)
class Entry:
    """A request that enters: it becomes ``row`` of those that do, and gets ``slot``."""

    request: int
    row: int
    slot: int


@dataclass
class Schedule:
    """Who is in which slot.

    Attributes:
        groups: Into how many groups slots and entering rows are split.
        slots: How many slots there are, a multiple of ``groups``.
        entering: How many rows enter at once at most, a multiple of ``groups``.
        waiting: Requests that have not entered, in the order in which they shall.
        owners: Which request is in each slot, ``FREE`` where none is.
        due: How many tokens each slot's request may yet be asked for.
    """

    groups: int
    slots: int
    entering: int
    waiting: deque[int]
    owners: list[int] = field(init=False)
    due: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """All slots are free."""
        self.owners, self.due = [FREE] * self.slots, [0] * self.slots

    @property
    def busy(self) -> int:
        """In how many slots a request is."""
        return self.slots - self.owners.count(FREE)

    def enter(self, limits: Sequence[int]) -> list[Entry]:
        """Lets the next requests in, if enough slots are free.

        Args:
            limits: The most tokens of each request, by its index.

        Returns:
            Who enters; empty where it is better to wait.
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
        """Notes that every row is asked for so many tokens; says whose rows they are.

        A slot whose row has been asked for its last token is free for the next.
        """
        owners = self.owners.copy()
        for slot, owner in enumerate(owners):
            self.due[slot] -= tokens
            if owner != FREE and self.due[slot] <= 0:
                self.owners[slot] = FREE
        return owners

    def leave(self, request: int) -> int | None:
        """A request has ended; says which slot still was its own, if one was."""
        if request not in self.owners:
            return None
        slot = self.owners.index(request)
        self.owners[slot] = FREE
        return slot

    def shrink(self, slots: int) -> list[int] | None:
        """Takes the last requests into fewer slots, where none waits and they fit in.

        Returns:
            For each new slot the old one whose row it takes, counted within its
            group, one beyond the last where it takes none; or ``None``.
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
        """Rows and slots of those that could enter, taking groups in turns."""
        held, rows = self.slots // self.groups, self.entering // self.groups
        by_group = []
        for group in range(self.groups):
            free = [slot for slot in range(group * held, (group + 1) * held) if self.owners[slot] == FREE]
            by_group.append([(group * rows + row, slot) for row, slot in enumerate(free[:rows])])
        return [places[turn] for turn in range(rows) for places in by_group if turn < len(places)]
