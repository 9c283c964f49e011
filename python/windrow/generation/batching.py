"""Chooses the programs of a run, and the order in which its requests enter slots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windrow.forks.shapes import Shapes
from windrow.generation.logits import RuleTable
from windrow.generation.prefixes import Prefixes, PrefixPlan
from windrow.generation.program import Memory, Recomputing, Stepping
from windrow.generation.programs import Begin, Decode, Insert, Keep, Move, Program
from windrow.generation.reading import choose_reading, one_shape
from windrow.generation.sampling import Choice
from windrow.generation.settings import Settings
from windrow.model import LanguageModel
from windrow.planning import bucket_ids, choose_lengths
from windrow.sizing.policy import DEFAULT_TOKENS_PER_BATCH, BatchPolicy

STEPS = 4
"""The number of tokens that a dispatch generates in each slot. A finished row keeps its slot until after the
next dispatch, so a larger number wastes more slot time. With a smaller one, devices wait for the host."""

FEWER = 4
"""When few rows are left, they move to the number of slots divided by this."""

LEAST_SLOTS_TO_DIVIDE = 16
"""Runs with fewer slots keep all of them to the end."""

RECOMPUTED_LENGTHS = 4
"""The maximum number of padded lengths for models without ``step``, which recompute the whole text."""


@dataclass(frozen=True)
class Batching:
    """The programs of a run, and the order of its requests.

    Attributes:
        begin: Creates the slots.
        insert: Prefills prompts and shared prefixes.
        decodes: The programs that generate tokens, shortest rows first; only one if the model has ``step``.
        last: The programs that move the last rows to fewer slots and generate tokens there; ``None`` if that
            does not pay off.
        order: ``int64[n]``, the order in which requests enter: wave by wave if prefixes are shared, then
            longest first, then largest limit of new tokens first.
        rest: ``int32[n]``, the number of tokens of each prompt after its shared prefix.
        reading: The prefill shape: rows per group, length, and chunk length.
        room: The maximum number of tokens in a row, padding included; ``None`` for no limit.
        prefixes: The batches that prefill shared prefixes; ``None`` if nothing is shared.
    """

    begin: Begin
    insert: Insert
    decodes: tuple[Decode, ...]
    last: tuple[Move, Decode] | None
    order: NDArray[np.int64]
    rest: NDArray[np.int32]
    reading: Shapes
    room: int | None = None
    prefixes: PrefixPlan | None = None

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs in the order in which they are needed; those for the longest prompts first."""
        kept = () if self.insert.keep is None else (self.insert.keep,)
        return (self.begin, *kept, self.insert, *self.decodes[::-1], *(self.last or ()))

    def columns(self, tokens: int) -> int:
        """How many columns a prefill runs for rows of up to ``tokens`` tokens, without the last one."""
        return int(self.reading.padded(np.array([tokens - 1], np.int32))[0])

    def waves(self) -> list[NDArray[np.int64]]:
        """The requests of each wave, in the order in which they enter."""
        if self.prefixes is None:
            return [self.order]
        ends = np.bincount(self.prefixes.wave).cumsum()[:-1]
        return np.split(self.order, ends)


@dataclass(frozen=True)
class Batcher:
    """Creates the batchings of one model.

    Attributes:
        model: The model, with or without ``step``.
        policy: Padded lengths, and chunk lengths chosen by cost, are multiples of its ``padding_multiple``.
        groups: The number of groups that slots and entering rows are split into.
        end_tokens: Tokens after which a row becomes idle.
        chunk_length: The prefill chunk length in tokens; ``None`` to choose it by cost.
        shape_price: The cost of compiling a program, in tokens.
        platform: The devices' platform, such as ``"cpu"``.
        rules: The shapes of the run's rule table; ``None`` if there are no rules.
        prefixes: The prefixes to share; ``None`` to share nothing.
        most_prefixes: The maximum number of prefix states in a group's store.
    """

    model: LanguageModel
    policy: BatchPolicy
    groups: int
    end_tokens: tuple[int, ...]
    chunk_length: int | None
    shape_price: int
    platform: str
    rules: RuleTable | None = None
    prefixes: Prefixes | None = None
    most_prefixes: int = 1

    def batching(self, lengths: NDArray[np.int32], settings: Sequence[Settings], slots: int) -> Batching:
        """The batching of prompts of these lengths in ``slots`` slots."""
        limits = np.array([one.max_new_tokens for one in settings], np.int32)
        make = self._recomputing if self.model.step is None else self._stepping
        return make(lengths, limits, _choice(settings), slots)

    def _recomputing(
        self, lengths: NDArray[np.int32], limits: NDArray[np.int32], choice: Choice, slots: int
    ) -> Batching:
        totals = lengths + limits
        padded = choose_lengths(totals, RECOMPUTED_LENGTHS, self.policy.padding_multiple)
        memories = [Recomputing(self.model, int(padded[-1]), int(length)) for length in padded]
        begin, longest = Begin(memories[-1], slots, self._history(totals)), int(lengths.max())
        most = min(self._most_rows(slots), DEFAULT_TOKENS_PER_BATCH // longest)
        insert = Insert(begin, self.groups * max(1, most), longest)
        decodes = tuple(self._decode(begin, memory, choice) for memory in memories)
        order = np.lexsort([-limits, -bucket_ids(totals, padded)])
        reading = one_shape(insert.rows // self.groups, longest, longest)
        return Batching(begin, insert, decodes, None, order, lengths, reading)

    def _stepping(
        self, lengths: NDArray[np.int32], limits: NDArray[np.int32], choice: Choice, slots: int
    ) -> Batching:
        capacity = _rounded(int((lengths + limits).max())) if self.model.state_takes_length else 0
        history = self._history(lengths + limits)
        room = self.model.room(capacity) if capacity else self.model.max_length
        prefixes, rest, reading = self._reading(lengths, self._most_rows(slots), room)
        memory = Stepping(self.model, capacity, int(reading.chunks[0]))
        begin, keep, plan = Begin(memory, slots, history), None, None
        if prefixes is not None:
            plan = PrefixPlan(prefixes, reading, self.groups, self.most_prefixes, room)
            keep = Keep(memory, plan.slots)
        insert = Insert(begin, int(reading.rows[0]) * self.groups, int(reading.lengths[0]), keep)
        fewer = Begin(memory, slots // FEWER // self.groups * self.groups, history)
        idle = int(limits.max()) * (slots - fewer.slots)  # the most tokens that idle slots could waste
        divides = fewer.slots > 0 and slots >= LEAST_SLOTS_TO_DIVIDE
        pays = divides and len(lengths) > slots and idle > self.shape_price
        last = (Move(begin, fewer), self._decode(fewer, memory, choice)) if pays else None
        waves = np.zeros(len(rest), np.int64) if plan is None else plan.wave
        order = np.lexsort((-limits, -reading.padded(rest - 1), waves))
        decodes = (self._decode(begin, memory, choice),)
        return Batching(begin, insert, decodes, last, order, rest, reading, room, plan)

    def _reading(
        self, lengths: NDArray[np.int32], most_rows: int, room: int | None
    ) -> tuple[Prefixes | None, NDArray[np.int32], Shapes]:
        """The prefixes that fit, the number of tokens after them in each prompt, and the prefill shape."""
        prefixes = self.prefixes
        while True:
            rest = lengths if prefixes is None else lengths - prefixes.depths
            reading = choose_reading(
                rest - 1,
                [] if prefixes is None else prefixes.levels,
                self.groups,
                most_rows,
                platform=self.platform,
                multiple=self.policy.padding_multiple,
                room=room,
                chunk_length=self.chunk_length,
            )
            if prefixes is None or prefixes is (fewer := prefixes.within(reading, room)):
                return prefixes, rest, reading
            prefixes = fewer

    def _most_rows(self, slots: int) -> int:
        """The maximum number of rows per group that enter at once: a quarter of its slots."""
        return max(1, slots // self.groups // 4)

    def _decode(self, begin: Begin, memory: Memory, choice: Choice) -> Decode:
        return Decode(begin, memory, STEPS, choice, () if self.rules else self.end_tokens, self.rules)

    def _history(self, totals: NDArray[np.int32]) -> int:
        """The length of the history that rules need: the longest total length; 0 without rules."""
        return 0 if self.rules is None else _rounded(int(totals.max()))


def _rounded(length: int) -> int:
    """Rounds up to a multiple of 32, and long ones by at most an eighth, so similar runs share programs.

    >>> [_rounded(length) for length in (3, 100, 130, 1000, 2049)]
    [32, 128, 160, 1024, 2304]
    """
    step = 1 << max(5, length.bit_length() - 4)
    return -(-length // step) * step


def _choice(settings: Sequence[Settings]) -> Choice:
    sampled = [one for one in settings if one.temperature > 0]
    if any(one.top_k or one.top_p < 1 for one in sampled):
        return "limited"
    return "sampled" if sampled else "greedy"
