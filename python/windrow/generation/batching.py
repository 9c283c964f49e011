"""Which programs a run needs, and in which order its requests enter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windrow.generation.logits import RuleTable
from windrow.generation.program import Memory, Recomputing, Stepping
from windrow.generation.programs import Begin, Decode, Insert, Move, Program
from windrow.generation.sampling import Choice
from windrow.generation.settings import Settings
from windrow.model import LanguageModel
from windrow.planning import Plan, bucket_ids, choose_lengths
from windrow.policy import DEFAULT_TOKENS_PER_BATCH, BatchPolicy

STEPS = 4
"""How many tokens a dispatch makes in every slot. A row that ends leaves its slot after the next dispatch, so
fewer waste fewer slots; so many keep the devices busy while the host looks at the last ones."""

FEWER = 4
"""By how much the slots are divided when few rows are left."""

LEAST_SLOTS_TO_DIVIDE = 16
"""Fewer slots than these stay as they are."""

RECOMPUTED_LENGTHS = 4
"""In how many padded lengths texts are read anew where the model has no ``step``."""


@dataclass(frozen=True)
class Batching:
    """All that a run's programs and schedule follow from.

    Attributes:
        begin: Makes the slots.
        inserts: The programs that read prompts, shortest first.
        decodes: The programs that make tokens, those that read least first.
        last: Where that pays, the programs that take the last rows into fewer slots
            and make tokens there.
        order: ``int64[n]``, in which order requests enter: longest first, and of
            one padded length those first that may become longest.
    """

    begin: Begin
    inserts: tuple[Insert, ...]
    decodes: tuple[Decode, ...]
    last: tuple[Move, Decode] | None
    order: NDArray[np.int64]

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs, in the order in which they are needed first."""
        first = (self.begin, self.inserts[-1], self.decodes[-1])
        return (*first, *self.inserts[-2::-1], *self.decodes[-2::-1], *(self.last or ()))


@dataclass(frozen=True)
class Batcher:
    """Makes batchings of one model.

    Attributes:
        model: With ``step`` or without.
        policy: Decides how many padded lengths of prompts there are.
        groups: Into how many groups slots and entering rows are split.
        end_tokens: Tokens after which a row rests.
        chunk_length: Where given, prompts are read in chunks of so many tokens.
        rules: The shapes of the run's rules, where it has any.
    """

    model: LanguageModel
    policy: BatchPolicy
    groups: int
    end_tokens: tuple[int, ...]
    chunk_length: int | None
    rules: RuleTable | None = None

    def batching(self, lengths: NDArray[np.int32], settings: Sequence[Settings], slots: int) -> Batching:
        """The batching of prompts of these lengths in so many slots."""
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
        return Batching(begin, inserts, decodes, None, np.lexsort([-limits, -bucket_ids(totals, padded)]))

    def _stepping(
        self, lengths: NDArray[np.int32], limits: NDArray[np.int32], choice: Choice, slots: int
    ) -> Batching:
        capacity = _rounded(int((lengths + limits).max())) if self.model.state_takes_length else 0
        memory = Stepping(self.model, capacity, self.chunk_length)
        history = self._history(lengths + limits)
        begin, rows = Begin(memory, slots, history), self._entering(slots, int(lengths.max()))
        plan = Plan(
            lengths,
            batch_size=rows,
            row_multiple=self.groups,
            max_shapes=self.policy.max_shapes,
            padding_multiple=self.policy.padding_multiple,
        )
        padded = np.sort(plan.shapes[:, 1])
        inserts = tuple(Insert(begin, rows, int(length)) for length in padded)
        fewer = Begin(memory, slots // FEWER // self.groups * self.groups, history)
        pays = fewer.slots > 0 and slots >= LEAST_SLOTS_TO_DIVIDE and len(lengths) > slots
        last = (Move(begin, fewer), self._decode(fewer, memory, choice)) if pays else None
        order = np.lexsort([-limits, -bucket_ids(lengths, padded)])
        return Batching(begin, inserts, (self._decode(begin, memory, choice),), last, order)

    def _decode(self, begin: Begin, memory: Memory, choice: Choice) -> Decode:
        return Decode(begin, memory, STEPS, choice, () if self.rules else self.end_tokens, self.rules)

    def _history(self, totals: NDArray[np.int32]) -> int:
        """How many tokens of a row its rules look at: all that it comes to."""
        return 0 if self.rules is None else _rounded(int(totals.max()))

    def _entering(self, slots: int, longest: int) -> int:
        """How many rows enter at once: a quarter of the slots, fewer where prompts are long."""
        most = min(slots // 4, DEFAULT_TOKENS_PER_BATCH // longest)
        return max(self.groups, most // self.groups * self.groups)


def _rounded(length: int) -> int:
    """A multiple of 32, of long ones an eighth more at most: runs that are alike share their programs.

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
