"""Shared prefixes of prompts: each is prefilled once, and rows that begin with it start from its state.

Prompts are prefilled in waves, as in :mod:`windrow.scoring.forks`: first the shared prefixes of a wave, level
by level, whose states go into a store on the devices; then the rest of each prompt, from the state of its
longest shared prefix. One program does both. A prompt enters whichever slot is free, so every group of slots
has all prefixes of the wave. Equal prompts share everything except their last token, with which decoding
begins.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from windrow.forks.batches import Batch, stem_batches
from windrow.forks.pieces import LEAST_SAVED, Branches, Stems, stem_tokens
from windrow.forks.shapes import NO_LIMIT, Shapes
from windrow.forks.waves import Waves, waves_of
from windrow.planning import prefix_stems
from windrow.scoring.forks.feed import layout_rows, token_rows
from windrow.tokens import Segments


@dataclass(frozen=True)
class Prefixes:
    """The prefixes that are worth sharing, and the longest one that each prompt begins with.

    Attributes:
        prompts: The prompts.
        stems: The prefixes.
        stem: ``int64[n]``, the prefix of each prompt; -1 if there is none.
    """

    prompts: Segments
    stems: Stems
    stem: NDArray[np.int64]

    @classmethod
    def of(cls, prompts: Segments) -> "Prefixes":
        """The prefixes of these prompts; a prompt's last token is never part of one."""
        lengths, (order, shared) = prompts.input_lengths, prompts.input_order
        depth, parent, segment, stem = prefix_stems(
            lengths, order, shared, lengths.copy(), LEAST_SAVED, apart=True
        )
        return cls(prompts, Stems(depth, parent, segment), stem)

    @cached_property
    def depths(self) -> NDArray[np.int32]:
        """``int32[n]``: how many tokens of each prompt are in its prefix."""
        return self.stems.depth_of(self.stem)

    @property
    def levels(self) -> list[NDArray[np.int32]]:
        """For each level, ``int32[k]``: the number of tokens that each of its prefixes adds to its parent."""
        return [self.stems.lengths[self.stems.level == each] for each in np.unique(self.stems.level)]

    @property
    def saved(self) -> int:
        """How many tokens sharing saves in prefill."""
        return int(self.depths.sum()) - int(self.stems.lengths.sum())

    def within(self, reading: Shapes, room: int | None) -> "Prefixes":
        """Drops prefixes that do not fit into ``room`` tokens, padding included.

        A prompt whose rest, padded, does not fit after its prefix is prefilled without one. Returns ``self``
        if everything fits.

        Args:
            reading: The prefill shape.
            room: The number of tokens that a state has room for; ``None`` for no limit.
        """
        limit = NO_LIMIT if room is None else room
        rest = np.diff(self.prompts.offsets).astype(np.int32) - self.depths - 1
        beyond = (reading.ends(self.depths, rest) > limit) & (self.stem >= 0)
        too_long = reading.ends(self.stems.begins, self.stems.lengths) > limit
        if not beyond.any() and not too_long.any():
            return self
        kept = self.stems.without(too_long, np.where(beyond, -1, self.stem))
        return Prefixes(self.prompts, *kept)


class PrefixPlan:
    """The batches that prefill prefixes, wave by wave.

    Args:
        prefixes: The prefixes.
        reading: The prefill shape.
        groups: The number of groups that slots are split into.
        most_slots: The maximum number of states in a group's store.
        room: The number of tokens that a state has room for; ``None`` for no limit.

    Attributes:
        slots: The number of states in a group's store.
        wave: ``int64[n]``, the wave in which each prompt enters.
        from_slot: ``int32[n]``, the store slot whose state each prompt starts from.
        batches: The batches of each wave.
    """

    def __init__(
        self, prefixes: Prefixes, reading: Shapes, groups: int, most_slots: int, room: int | None
    ) -> None:
        self._prompts, self._groups = prefixes.prompts, groups
        stems, stem = prefixes.stems, prefixes.stem
        none = np.zeros(len(stem), np.int32)
        each = np.arange(len(stem))
        waves = waves_of(stems, Branches(each, stem, prefixes.depths, none, none, each), 1, most_slots)
        self._waves: Waves = waves
        self.slots, self.wave = waves.slots, waves.branch_wave
        self.from_slot = waves.from_slot(waves.branch_node)
        limit = NO_LIMIT if room is None else room
        self.batches: list[list[Batch]] = [
            list(stem_batches(waves, wave, reading, limit, 1)) for wave in range(waves.count)
        ]

    def arrays(self, batch: Batch) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Tokens, ``int32[rows, length]``, and layout, ``int32[rows, 4]``, of the rows of all groups.

        The layout's columns are those of :data:`windrow.scoring.forks.program.LAYOUT`.
        """
        waves, prompts = self._waves, self._prompts
        nodes, places = batch.filled()
        which = waves.node_stem[nodes]
        begins, lengths = stem_tokens(prompts, waves.stems, which)
        tokens = token_rows(batch.shape, places, prompts.tokens, begins, lengths)
        slots = waves.from_slot(waves.node_parent[nodes]), waves.node_slot[nodes]
        depths = waves.stems.begins[which]
        layout = layout_rows(batch.shape[0], places, self.slots, lengths, depths, *slots)
        return np.tile(tokens, (self._groups, 1)), np.tile(layout, (self._groups, 1))
