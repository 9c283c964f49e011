"""Fills the arrays of rows that are prefilled together: prompts, which enter slots, or shared prefixes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from windrow.forks.batches import Batch
from windrow.generation.batching import Batching
from windrow.generation.logits import RunRules
from windrow.generation.program import WHOLE
from windrow.generation.schedule import Entry
from windrow.generation.settings import Settings
from windrow.tokens import Segments

Arrays = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
"""The arrays that :func:`windrow.generation.program.insert_rows` takes: tokens, integers and fractions."""


@dataclass(frozen=True)
class Rows:
    """Fills the rows of a run.

    Attributes:
        batching: The run's programs.
        prompts: ``n`` prompts.
        settings: Their settings.
        rules: Their rules.
        keys: ``int32[n, 2]``, the two words of each one's random key.
        groups: The number of groups that slots are split into.
    """

    batching: Batching
    prompts: Segments
    settings: Sequence[Settings]
    rules: RunRules
    keys: NDArray[np.int32]
    groups: int

    def together(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        """Splits entries into batches in which no row that continues a prefix is padded beyond ``room``."""
        rest, room = self.batching.rest, self.batching.room
        waiting = sorted(entries, key=lambda entry: -rest[entry.request])
        while waiting:
            columns = self.batching.columns(int(rest[waiting[0].request]))
            depths = [self._depth(entry.request) for entry in waiting]
            fits = [room is None or depth == 0 or depth + columns <= room for depth in depths]
            yield list(compress(waiting, fits))
            waiting = [entry for entry, fit in zip(waiting, fits, strict=True) if not fit]

    def of_entries(self, entries: list[Entry]) -> Arrays:
        """The arrays of requests that enter slots."""
        tokens, whole, fractions = self._empty()
        prefixes = self.batching.prefixes
        for entry in entries:
            stop, length = self.prompts.offsets[entry.request + 1], self.batching.rest[entry.request]
            settings, kind = self.settings[entry.request], self.rules.kinds[entry.request]
            tokens[entry.row, :length] = self.prompts.tokens[stop - length : stop]
            slot, key = entry.slot % self._slots, self.keys[entry.request]
            numbers = length, slot, settings.max_new_tokens, settings.top_k, kind
            whole[entry.row, :8] = *numbers, *key, self._depth(entry.request)
            if prefixes is not None:
                whole[entry.row, 8] = prefixes.from_slot[entry.request]
            fractions[entry.row] = settings.temperature, settings.top_p
        return tokens, whole, fractions

    def of_prefixes(self, batch: Batch) -> Arrays:
        """The arrays of a batch of prefixes, whose states enter the store."""
        assert self.batching.prefixes is not None
        _, whole, fractions = self._empty()
        tokens, layout = self.batching.prefixes.arrays(batch)
        whole[:, 0] = layout[:, 0] + 1  # lengths count a last token, which is not prefilled
        whole[:, 7:] = layout[:, 1:]
        return tokens, whole, fractions

    @property
    def _slots(self) -> int:
        """The number of slots in each group."""
        return self.batching.begin.slots // self.groups

    def _depth(self, request: int) -> int:
        """How many tokens of a request's prompt are in its shared prefix."""
        start, stop = self.prompts.offsets[request : request + 2]
        return int(stop - start) - int(self.batching.rest[request])

    def _empty(self) -> Arrays:
        """Rows of filler, which enter neither a slot nor the store."""
        insert, prefixes = self.batching.insert, self.batching.prefixes
        whole = np.zeros((insert.rows, len(WHOLE)), np.int32)
        whole[:, :2] = 1, self._slots
        if prefixes is not None:
            whole[:, 8:] = prefixes.slots, prefixes.slots + 1
        return np.zeros((insert.rows, insert.length), np.int32), whole, np.zeros((insert.rows, 2), np.float32)
