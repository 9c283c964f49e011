"""A batch of token sequences with what a language model and its scoring need, as one pytree."""

from operator import itemgetter
from typing import Any, ClassVar, NamedTuple, Self

import jax
from numpy.typing import NDArray

Array = jax.Array | NDArray[Any]
"""What a batch is made of: NumPy arrays on a host, JAX arrays on devices."""


_FIELDS = (
    "inputs",
    "targets",
    "inputs_position",
    "targets_position",
    "inputs_segmentation",
    "targets_segmentation",
    "document_idx",
    "sequence_idx",
    "_document_borders",
)


class LLMIndexedBatch(tuple[Array, ...]):
    """A batch of sequences that know which document they come from.

    A tuple with names, and so a pytree: ``jax.tree.map``, ``jax.jit`` and Grain take
    it as it is. (Python's own named tuples refuse a name with an underscore in
    front.) ``rows`` and ``length`` are the batch's shape; segment 0 and document 0
    mark padding.

    Args:
        inputs: Tokens that the model sees, ``int32[rows, length]``.
        targets: The token after each of them, ``int32[rows, length]``.
        inputs_position: Where in its sequence each input stands, from 0.
        targets_position: The same for targets.
        inputs_segmentation: 1 for a token, 0 for padding.
        targets_segmentation: 1 where a target is scored, else 0.
        document_idx: Number of the document in each row, from 1; 0 for a row
            of padding. ``int32[rows]``.
        sequence_idx: Number of the sequence within its document, ``int32[rows]``.
        _document_borders: True where a new document begins inside a row,
            ``bool[rows, length]``.

    >>> row = np.zeros((1, 2), np.int32)
    >>> batch = LLMIndexedBatch(row, row, row, row, row, row, row[0], row[0], row == 1)
    >>> jax.tree.map(np.shape, batch).document_idx
    (2,)
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = _FIELDS
    inputs = property(itemgetter(0))
    targets = property(itemgetter(1))
    inputs_position = property(itemgetter(2))
    targets_position = property(itemgetter(3))
    inputs_segmentation = property(itemgetter(4))
    targets_segmentation = property(itemgetter(5))
    document_idx = property(itemgetter(6))
    sequence_idx = property(itemgetter(7))
    _document_borders = property(itemgetter(8))

    def __new__(cls, *parts: Any, **named: Any) -> Self:
        """All parts are needed, by position or by name."""
        if len(parts) + len(named) == len(_FIELDS) and set(named) == set(_FIELDS[len(parts) :]):
            return super().__new__(cls, (*parts, *(named[field] for field in _FIELDS[len(parts) :])))
        raise TypeError(f"a batch has the parts {', '.join(_FIELDS)}; give each once")

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def _asdict(self) -> dict[str, Any]:
        """The parts by name, as of Python's named tuples."""
        return dict(zip(_FIELDS, self, strict=True))

    def __repr__(self) -> str:
        parts = (f"{field}={_describe(part)}" for field, part in self._asdict().items())
        return f"LLMIndexedBatch({', '.join(parts)})"


class HostBatch(NamedTuple):
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
        read_request: The request that it belongs to, ``int32[groups, reads]``; -1 for a
            read that stands for none.
    """

    inputs: Array
    positions: Array
    segment_ids: Array
    pick_index: Array
    read_pick: Array
    read_target: Array
    read_request: Array


def _describe(part: Any) -> str:
    return (
        f"{part.dtype}{list(part.shape)}" if hasattr(part, "shape") and hasattr(part, "dtype") else repr(part)
    )
