"""Batches of token sequences, each one pytree: what a model sees, and what its scoring needs.

Batches hold NumPy arrays on a host and JAX arrays on devices. They are frozen
dataclasses registered with JAX, so ``jax.tree.map``, ``jax.jit`` and Grain take
them as they are; two are equal if all their arrays are, in dtype, shape and
values.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

Array = jax.Array | NDArray[Any]
"""What a batch is made of."""

_SomeBatch = TypeVar("_SomeBatch", bound="_Batch")


class _Batch:
    """What all batches can do."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(mine, others) for mine, others in zip(_parts(self), _parts(other), strict=True))

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash

    def __repr__(self) -> str:
        named = zip(dataclasses.fields(self), _parts(self), strict=True)  # type: ignore[arg-type]
        return (
            f"{type(self).__name__}({', '.join(f'{field.name}={_describe(part)}' for field, part in named)})"
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class LLMIndexedBatch(_Batch):
    """A batch of sequences that know which document they come from, one in each row.

    ``rows`` and ``length`` are the batch's shape; segment 0 and document 0 mark
    padding.

    Attributes:
        inputs: Tokens that the model sees, ``int32[rows, length]``.
        targets: The token after each of them, ``int32[rows, length]``.
        inputs_position: Where in its sequence each input stands, from 0.
        targets_position: The same for targets.
        inputs_segmentation: 1 for a token, 0 for padding.
        targets_segmentation: 1 where a target is scored, else 0.
        document_idx: Number of the document in each row, from 1; 0 for a row of
            padding. ``int32[rows]``.
        sequence_idx: Number of the sequence within its document, ``int32[rows]``.
        _document_borders: True where a new document begins inside a row,
            ``bool[rows, length]``.

    >>> row = np.zeros((1, 2), np.int32)
    >>> LLMIndexedBatch(row, row, row, row, row, row, row[0], row[0], row == 1).document_idx
    array([0, 0], dtype=int32)
    """

    inputs: Array
    targets: Array
    inputs_position: Array
    targets_position: Array
    inputs_segmentation: Array
    targets_segmentation: Array
    document_idx: Array
    sequence_idx: Array
    _document_borders: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class HostBatch(_Batch):
    """What a model sees of one batch, and where its scores are read.

    Rows may be shared by requests and packed, so a score does not belong to a
    row. The logits at a position predict the token after it: a *pick* is a
    position whose logits are needed, a *read* one scored token. Rows come in
    equal groups, one for each device; picks are counted within a group. All
    batches of a shape have the same number of picks and reads.

    ```text
    logits    = model(inputs, positions, segment_ids)         [rows, length, vocab], of one group
    picked    = log_softmax(logits.reshape(-1, vocab)[pick_index])
    scores    = picked[read_pick, read_target]                 one for each read
    ```

    Attributes:
        inputs: Tokens that the model sees, ``int32[rows, length]``.
        positions: Where in its segment each stands, from 0.
        segment_ids: Which segment of its row each belongs to, from 1; 0 in
            padding and filler.
        pick_index: Row times length plus position, ``int32[groups, picks]``.
        read_pick: The pick whose logits score a token, ``int32[groups, reads]``.
        read_target: That token, ``int32[groups, reads]``.
        read_request: The request that it belongs to, ``int32[groups, reads]``; -1
            for a read that stands for none.
    """

    inputs: Array
    positions: Array
    segment_ids: Array
    pick_index: Array
    read_pick: Array
    read_target: Array
    read_request: Array


def join_rows(batches: Sequence[_SomeBatch]) -> _SomeBatch:
    """One batch of the rows, and groups, of several NumPy batches of the same length."""
    joined: _SomeBatch = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
    return joined


def _parts(batch: Any) -> list[Any]:
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]


def _same(one: Any, other: Any) -> bool:
    """Whether two arrays are equal, as far as this process has them."""
    if isinstance(one, jax.Array) and isinstance(other, jax.Array) and not one.is_fully_addressable:
        shards = zip(one.addressable_shards, other.addressable_shards, strict=True)
        return one.shape == other.shape and all(_same(mine.data, others.data) for mine, others in shards)
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and np.array_equal(one, other)


def _describe(part: Any) -> str:
    if hasattr(part, "dtype") and hasattr(part, "shape"):
        return f"{part.dtype}{list(part.shape)}"
    return repr(part)
