"""Decides which programs a run needs, and in which order its requests enter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from windrow.generation.logits import RuleTable
from windrow.generation.prefixes import Prefixes, PrefixPlan
from windrow.generation.program import Memory, Recomputing, Stepping
from windrow.generation.programs import Begin, Decode, Insert, Keep, Move, Program, Read
from windrow.generation.sampling import Choice
from windrow.generation.settings import Settings
from windrow.model import LanguageModel
from windrow.planning import Plan, bucket_ids, choose_lengths
from windrow.sizing.policy import DEFAULT_TOKENS_PER_BATCH, BatchPolicy

STEPS = 4
"""How many tokens a dispatch generates in every slot. A finished row keeps its slot until after the next
dispatch, so a small number wastes less; this many keep the devices busy while the host reads the results."""

FEWER = 4
"""The number of slots is divided by this when few rows are left."""

LEAST_SLOTS_TO_DIVIDE = 16
"""Below this number, slots are not divided."""

RECOMPUTED_LENGTHS = 4
"""The number of padded lengths in which texts are recomputed if the model has no ``step``."""


@dataclass(frozen=True)
class Batching:
    """The programs of a run, and the order of its requests.

    Attributes:
        begin: Creates the slots.
        inserts: The programs that read prompts, shortest first.
        decodes: The programs that generate tokens, those that read least first.
        last: If it pays off, the programs that move the last rows to fewer slots and
            generate tokens there.
        order: ``int64[n]``, the order in which requests enter: wave by wave if prefixes are shared, then
            longest padded length first, then largest limit of new tokens first.
        inserted: ``int64[n]``, which of ``inserts`` reads each prompt.
        depths: ``int32[n]``, how many leading tokens of each prompt are read as a shared prefix.
        prefixes: How shared prefixes are read, if there are any.
    """

    begin: Begin
    inserts: tuple[Insert, ...]
    decodes: tuple[Decode, ...]
    last: tuple[Move, Decode] | None
    order: NDArray[np.int64]
    inserted: NDArray[np.int64]
    depths: NDArray[np.int32]
    prefixes: PrefixPlan | None = None

    @property
    def keep(self) -> Keep | None:
        """Creates the store of shared prefixes, if there are any."""
        return self.inserts[0].keep

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs; those for the longest prompts first."""
        first = (self.begin, self.inserts[-1], self.decodes[-1])
        return (*first, *self.reads, *self.inserts[-2::-1], *self.decodes[-2::-1], *(self.last or ()))

    @property
    def reads(self) -> tuple[Program, ...]:
        """The programs that read shared prefixes."""
        if self.prefixes is None or self.keep is None:
            return ()
        return (self.keep, *(Read(self.keep, *shape) for shape in self.prefixes.shapes))

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
        policy: Decides how many padded lengths prompts have.
        groups: The number of groups that slots and entering rows are split into.
        end_tokens: Tokens after which a row is idle.
        chunk_length: If given, prompts are read in chunks of this many tokens.
        shape_price: What compiling a program costs, in tokens.
        rules: The shapes of the run's rules, if it has any.
        prefixes: The prefixes to read once, if there are any.
        most_prefixes: The most of them whose states a group may hold at a time.
    """

    model: LanguageModel
    policy: BatchPolicy
    groups: int
    end_tokens: tuple[int, ...]
    chunk_length: int | None
    shape_price: int
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
        inserts = (Insert(begin, self._entering(slots, longest), longest),)
        decodes = tuple(self._decode(begin, memory, choice) for memory in memories)
        order = np.lexsort([-limits, -bucket_ids(totals, padded)])
        return Batching(begin, inserts, decodes, None, order, np.zeros_like(order), np.zeros_like(lengths))

    def _stepping(
        self, lengths: NDArray[np.int32], limits: NDArray[np.int32], choice: Choice, slots: int
    ) -> Batching:
        capacity = _rounded(int((lengths + limits).max())) if self.model.state_takes_length else 0
        memory = Stepping(self.model, capacity, self.chunk_length)
        history = self._history(lengths + limits)
        room = self.model.room(capacity) if capacity else self.model.max_length
        prefixes, rest, rows, padded = self._padded(lengths, slots, room)
        begin, keep, plan = Begin(memory, slots, history), None, None
        if prefixes is not None:
            plan = PrefixPlan(prefixes, self._reading(rows), self.groups, self.most_prefixes, room)
            keep = Keep(memory, plan.slots)
        inserts = tuple(Insert(begin, rows, int(length), keep) for length in padded)
        fewer = Begin(memory, slots // FEWER // self.groups * self.groups, history)
        idle = int(limits.max()) * (slots - fewer.slots)  # the most tokens that the last rows could waste
        divides = fewer.slots > 0 and slots >= LEAST_SLOTS_TO_DIVIDE
        pays = divides and len(lengths) > slots and idle > self.shape_price
        last = (Move(begin, fewer), self._decode(fewer, memory, choice)) if pays else None
        inserted = bucket_ids(rest, padded).astype(np.int64)
        waves = np.zeros_like(inserted) if plan is None else plan.wave
        order = np.lexsort((-limits, -inserted, waves))
        decodes = (self._decode(begin, memory, choice),)
        return Batching(begin, inserts, decodes, last, order, inserted, lengths - rest, plan)

    def _padded(
        self, lengths: NDArray[np.int32], slots: int, room: int | None
    ) -> tuple[Prefixes | None, NDArray[np.int32], int, NDArray[np.int32]]:
        """The prefixes, the length of each prompt's rest, how many rows enter at once, and padded lengths."""
        prefixes = self.prefixes
        while True:
            rest = lengths if prefixes is None else lengths - prefixes.depths
            rows = self._entering(slots, int(rest.max()))
            plan = Plan(
                rest,
                batch_size=rows,
                row_multiple=self.groups,
                max_shapes=self.policy.max_shapes,
                padding_multiple=self.policy.padding_multiple,
                shape_price=self.shape_price,
            )
            padded = np.sort(plan.shapes[:, 1])
            if prefixes is None or prefixes is (fewer := prefixes.within(self._reading(rows), padded, room)):
                return prefixes, rest, rows, padded
            prefixes = fewer

    def _reading(self, rows: int) -> BatchPolicy:
        """How batches of shared prefixes are planned: no larger than those of prompts."""
        return replace(self.policy, batch_size=rows, tokens_per_batch=None, memory_budget=None)

    def _decode(self, begin: Begin, memory: Memory, choice: Choice) -> Decode:
        return Decode(begin, memory, STEPS, choice, () if self.rules else self.end_tokens, self.rules)

    def _history(self, totals: NDArray[np.int32]) -> int:
        """How many tokens per row the rules look at: the longest total length."""
        return 0 if self.rules is None else _rounded(int(totals.max()))

    def _entering(self, slots: int, longest: int) -> int:
        """How many rows enter at once: a quarter of the slots, fewer if prompts are long."""
        most = min(slots // 4, DEFAULT_TOKENS_PER_BATCH // longest)
        return max(self.groups, most // self.groups * self.groups)


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
