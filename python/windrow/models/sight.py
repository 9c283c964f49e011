"""Which tokens see each other, in plain rows, packed rows and prefix trees.

A few numbers per token determine which tokens see each other. In plain and packed rows, a token sees itself
and the earlier tokens of its segment. In tree rows, it sees itself and the earlier tokens whose reach goes
beyond it, which form its path. Either way, one array describes this: the number of positions from a query
back to a key, or -1 if the key is not visible.

    segment ids   1 1 1 2 2 0        gaps    0 -1 -1 -1 -1 -1
    positions     0 1 2 0 1 0                1  0 -1 -1 -1 -1
                                             2  1  0 -1 -1 -1
                                            -1 -1 -1  0 -1 -1
                                            -1 -1 -1  1  0 -1
                                            -1 -1 -1 -1 -1  0    (padding only sees padding)

    reach         5 3 3 5 5 6        gaps    0 -1 -1 -1 -1 -1    a b c and a d e share the prefix a
    positions     0 1 2 1 2 0                1  0 -1 -1 -1 -1
                                             2  1  0 -1 -1 -1
                                             1 -1 -1  0 -1 -1
                                             2 -1 -1  1  0 -1
                                            -1 -1 -1 -1 -1  0

The array is computed for one block of queries at a time, not as a whole.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NO_SLOT = int(np.iinfo(np.int32).max)
"""A slot of the cache that no token sees."""

_NO_SEGMENT = NO_SLOT


class Sight(NamedTuple):
    """Which tokens of a batch see each other; ``int32[rows, length]`` each.

    Attributes:
        positions: Each token's position in its segment.
        segment_ids: Each token's segment; 0 is padding.
        reach: If given, a token is seen by the tokens from itself up to, but not
            including, this index; segment ids are then not needed.
    """

    positions: jax.Array
    segment_ids: jax.Array
    reach: jax.Array | None = None

    def padded(self, columns: int) -> "Sight":
        """The same, with this many more columns of padding."""
        padded: Sight = jax.tree.map(lambda part: jnp.pad(part, ((0, 0), (0, columns))), self)
        return padded

    def gaps(self, queries: int | jax.Array, keys: int | jax.Array, size: int) -> jax.Array:
        """The number of positions from queries back to keys, ``int32[rows, size, size]``; -1 if hidden.

        Args:
            queries: The index of the first query.
            keys: The index of the first key.
            size: The number of queries and of keys.
        """
        gap = self._cut("positions", queries, size)[:, :, None] - self._cut("positions", keys, size)[:, None]
        if self.reach is None:
            ids, of_keys = (self._cut("segment_ids", start, size) for start in (queries, keys))
            return jnp.where(ids[:, :, None] == of_keys[:, None], jnp.maximum(gap, -1), -1)
        at = jnp.arange(size, dtype=jnp.int32)
        query, key = (queries + at)[None, :, None], (keys + at)[None, None, :]
        seen = (key <= query) & (query < self._cut("reach", keys, size)[:, None])
        return jnp.where(seen, gap, -1)

    def _cut(self, name: str, start: int | jax.Array, size: int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(getattr(self, name), start, size, axis=1)

    def slot_gaps(self, queries: int | jax.Array, size: int, slots: jax.Array) -> jax.Array:
        """The number of positions back to these cache slots, ``int32[rows, size, slots]``; -1 if hidden.

        Slots filled before this chunk are visible to tokens of the segment that the chunk begins with; all
        other segments begin within the chunk.
        """
        begun, filled = self._begun()
        before = jnp.where(self._cut("segment_ids", queries, size) == begun, filled, 0)[:, :, None]
        gap = self._cut("positions", queries, size)[:, :, None] - slots[None, None]
        return jnp.where(slots[None, None] < before, gap, -1)

    def filled(self) -> jax.Array:
        """A scalar: the largest number of cache slots that a row needs; 0 if all rows start new segments."""
        return jnp.max(self._begun()[1])

    def _begun(self) -> tuple[jax.Array, jax.Array]:
        """The segment that each row begins with, and the number of its filled slots; ``int32[rows, 1]``."""
        first = jnp.argmax(self.segment_ids > 0, axis=1, keepdims=True)
        segment, filled = (
            jnp.take_along_axis(part, first, axis=1) for part in (self.segment_ids, self.positions)
        )
        return segment, jnp.where(segment > 0, filled, 0)

    def reach_or_ends(self) -> jax.Array:
        """The reach of tokens; without one, where each token's segment ends; ``int32[rows, length]``."""
        if self.reach is not None:
            return self.reach
        last = jnp.pad(
            self.segment_ids[:, 1:] != self.segment_ids[:, :-1], ((0, 0), (0, 1)), constant_values=True
        )
        after = jnp.arange(1, last.shape[1] + 1, dtype=jnp.int32)
        return jax.lax.cummin(jnp.where(last, after, NO_SLOT), axis=1, reverse=True)

    def blocks_seen(self, block: int) -> jax.Array:
        """``bool[blocks, blocks]``: which blocks of queries may see which blocks of keys, in any row.

        A block sees itself, and earlier blocks that hold tokens of its segments or whose reach extends to it.
        """
        rows, length = self.positions.shape
        parts = rows, length // block, block
        number = jnp.arange(parts[1], dtype=jnp.int32)
        if self.reach is None:
            ids = self.segment_ids.reshape(parts)
            last, first = jnp.max(ids, axis=2), jnp.min(jnp.where(ids > 0, ids, _NO_SEGMENT), axis=2)
            seen = (first[:, None] <= last[:, :, None]) & (last[:, None] >= first[:, :, None])
        else:
            furthest = jnp.max(self.reach.reshape(parts), axis=2)
            seen = number[None, :, None] * block < furthest[:, None]
        before, same = number[None, :] < number[:, None], number[None, :] == number[:, None]
        return (jnp.any(seen, axis=0) & before) | same
