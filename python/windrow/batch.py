"""Batches of token sequences, as pytrees of model inputs and arrays for scoring.

Batches hold NumPy arrays on the host, and JAX arrays on devices. They are frozen dataclasses registered with
JAX, so ``jax.tree.map``, ``jax.jit`` and Grain work on them directly. Two batches are equal if all their
arrays have the same dtype, shape and values.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Array = jax.Array | NDArray[Any]
"""The type of a batch's fields."""

_SomeBatch = TypeVar("_SomeBatch", bound="_Batch")


class _Batch:
    """Equality and representation, shared by all batches."""

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
    """A batch of token sequences, one per row, with the document of each.

    The batch has shape ``[rows, length]``. Segment 0 and document 0 mark padding.

    Attributes:
        inputs: The model's input tokens, ``int32[rows, length]``.
        targets: The token that follows each input, ``int32[rows, length]``.
        inputs_position: The position of each input in its sequence, from 0.
        targets_position: The position of each target in its sequence, from 0.
        inputs_segmentation: 1 for a token, 0 for padding.
        targets_segmentation: 1 if a target is scored, else 0.
        document_idx: The row's document, from 1; 0 for a row of padding.
            ``int32[rows]``.
        sequence_idx: The row's index among its document's sequences, ``int32[rows]``.
        _document_borders: True where a document begins, ``bool[rows, length]``; if
            ``None``, `get_document_borders` derives it from ``inputs_segmentation``.

    >>> tokens = np.array([[5, 6, 7], [8, 9, 0]])
    >>> batch = LLMIndexedBatch.from_inputs(tokens, np.array([1, 2]), np.array([0, 0]))
    >>> batch.inputs
    array([[0, 5, 6],
           [0, 8, 9]])
    >>> batch[:, 1:].targets, batch[:, 1:].document_idx
    (array([[6, 7],
           [9, 0]]), array([1, 2]))
    >>> batch[1].targets, int(batch[1].document_idx)
    (array([8, 9, 0]), 2)
    """

    inputs: Array
    targets: Array
    inputs_position: Array
    targets_position: Array
    inputs_segmentation: Array
    targets_segmentation: Array
    document_idx: Array
    sequence_idx: Array
    _document_borders: Array | None = None

    @classmethod
    def from_inputs(
        cls, inputs: Array, document_idx: Array, sequence_idx: Array, targets: Array | None = None
    ) -> Self:
        """Makes a batch of whole rows: positions count from 0, and every token is in segment 1.

        Args:
            inputs: Tokens, ``[rows, length]``. Without ``targets``, they are the targets, and the inputs are
                the same tokens shifted right by one, with a leading 0.
            document_idx: The document of each row, ``[rows]``.
            sequence_idx: The sequence of each row, ``[rows]``.
            targets: The token that follows each input, ``[rows, length]``.

        Returns:
            A batch of JAX arrays if ``inputs`` is one, else of NumPy arrays; positions
            and segments are ``int32``. There are no explicit document borders.

        Raises:
            ValueError: The shapes do not match.
        """
        inputs, document_idx, sequence_idx = map(_array, (inputs, document_idx, sequence_idx))
        numpy = _numpy_of(inputs)
        if targets is None:
            first = numpy.zeros_like(inputs[..., :1])
            inputs, targets = numpy.concatenate([first, inputs[..., :-1]], axis=-1), inputs
        targets, shape = _array(targets), inputs.shape
        _check_shape("targets", targets, shape)
        _check_shape("document_idx", document_idx, shape[:-1])
        _check_shape("sequence_idx", sequence_idx, shape[:-1])
        columns = numpy.arange(shape[-1], dtype=np.int32)
        positions = numpy.zeros(shape, np.int32) + numpy.broadcast_to(columns, shape)
        segments = numpy.ones(shape, np.int32)
        return cls(
            inputs=inputs,
            targets=targets,
            inputs_position=positions,
            targets_position=positions.copy(),  # a buffer that occurs twice cannot be donated
            inputs_segmentation=segments,
            targets_segmentation=segments.copy(),
            document_idx=document_idx,
            sequence_idx=sequence_idx,
        )

    @classmethod
    def get_dtype_struct(cls, batch_size: int, max_length: int) -> Self:
        """The shapes and dtypes of a batch, for example to trace a model without data.

        Returns:
            A batch of ``jax.ShapeDtypeStruct``, all ``int32``, without document borders.

        >>> LLMIndexedBatch.get_dtype_struct(8, 128).document_idx
        ShapeDtypeStruct(shape=(8,), dtype=int32)
        """
        tokens = jax.ShapeDtypeStruct((batch_size, max_length), np.int32)
        numbers = jax.ShapeDtypeStruct((batch_size,), np.int32)
        return cls(*[tokens] * 6, *[numbers] * 2)  # type: ignore[arg-type]  # stand-ins for arrays

    @classmethod
    def get_sample(cls, batch_size: int, max_length: int) -> Self:
        """A batch of zeros with the shapes of `get_dtype_struct`, for example to initialize a model."""
        struct = cls.get_dtype_struct(batch_size, max_length)
        sample: Self = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), struct)
        return sample

    def get_document_borders(self) -> Array:
        """Where documents begin, ``bool[rows, length]``.

        This is ``_document_borders`` if given; otherwise, it is true in the first column and wherever
        ``inputs_segmentation`` differs from the previous column.
        """
        if self._document_borders is not None:
            return self._document_borders
        segments = self.inputs_segmentation
        numpy = _numpy_of(segments)
        is_first = numpy.broadcast_to(numpy.arange(segments.shape[-1]) == 0, segments.shape)
        borders: Array = (segments != numpy.roll(segments, 1, axis=-1)) | is_first
        return borders

    def replace(self, **changes: Any) -> Self:
        """The same batch with some fields changed."""
        return dataclasses.replace(self, **changes)

    def __getitem__(self, key: Any) -> Self:
        """The part of the batch that ``key`` selects, with NumPy's indexing for ``[rows, length]``.

        Each field uses as many indices of the key as it has dimensions: ``batch[:, 128:256]`` slices the
        token fields, and keeps ``document_idx``. Document borders are computed before slicing, so a slice
        from the middle of a document does not start with a border.

        Raises:
            IndexError: The key has more dimensions than the batch, or is a mask of
                single tokens, which cannot select whole rows.
        """
        whole = self.replace(_document_borders=self.get_document_borders())
        dimensions = np.ndim(self.inputs)
        part: Self = jax.tree.map(lambda field: field[_leading(key, np.ndim(field), dimensions)], whole)
        return part


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class HostBatch(_Batch):
    """A batch of model inputs, and where to read the scores.

    Rows may be packed, or shared by several requests, so scores do not correspond to rows. The logits at a
    position predict the next token: a *pick* is a position whose logits are needed, and a *read* is one
    scored token. Rows are divided into equal groups, one per device, and picks are numbered within their
    group. All batches of the same shape have the same number of picks and reads.

    ```text
    logits    = model(inputs, positions, segment_ids)         [rows, length, vocab], of one group
    picked    = log_softmax(logits.reshape(-1, vocab)[pick_index])
    scores    = picked[read_pick, read_target]                 one per read
    ```

    If rows hold prefix trees, segments share prefixes: a segment's tokens lie on a path through its row, and
    ``reach`` says which tokens see each other.

    Attributes:
        inputs: The model's input tokens, ``int32[rows, length]``.
        positions: Each token's position in its segment, from 0; in a tree, its depth.
        segment_ids: Each token's segment, or tree, within its row, from 1; 0 in padding
            and filler.
        pick_index: The row times the length plus the position of each pick, ``int32[groups, picks]``.
        read_pick: The pick whose logits score the token, ``int32[groups, reads]``.
        read_target: The scored token, ``int32[groups, reads]``.
        read_request: The request the token belongs to, ``int32[groups, reads]``; -1
            in padding.
        reach: ``int32[rows, length]``: token ``i`` of a row sees token ``j`` if ``j <= i < reach[j]``.
            ``None`` if there are no trees: a token then sees itself and the earlier tokens of its segment.
    """

    inputs: Array
    positions: Array
    segment_ids: Array
    pick_index: Array
    read_pick: Array
    read_target: Array
    read_request: Array
    reach: Array | None = None


def join_rows(batches: Sequence[_SomeBatch]) -> _SomeBatch:
    """Concatenates the rows and groups of several NumPy batches of the same length."""
    joined: _SomeBatch = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
    return joined


def _leading(key: Any, dimensions: int, most: int) -> tuple[Any, ...]:
    """The indices of a key for a field with ``dimensions`` axes, in a batch with ``most`` axes."""
    parts = list(key) if isinstance(key, tuple) else [key]
    indexed = sum(map(_indexed, parts))
    if indexed > most:
        raise IndexError(f"key indexes {indexed} dimensions; the batch has {most}")
    ellipses = [at for at, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) == 1:
        parts[ellipses[0] : ellipses[0] + 1] = [slice(None)] * (most - indexed)
    leading: list[Any] = []
    for part in parts:
        left = dimensions - sum(map(_indexed, leading))
        if _indexed(part) > left > 0:
            raise IndexError("key is a mask of single tokens; select rows and columns instead")
        if _indexed(part) > left:
            break
        leading.append(part)
    return tuple(leading)


def _indexed(part: Any) -> int:
    """The number of dimensions that one index of a key consumes."""
    if part is None or part is Ellipsis:
        return 0
    is_mask = getattr(part, "dtype", None) == np.bool_
    return np.ndim(part) if is_mask else 1


def _array(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _numpy_of(array: Array) -> Any:
    """``numpy`` or ``jax.numpy``, depending on the array."""
    return jnp if isinstance(array, jax.Array) else np


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; for these inputs it must be {shape}")


def _parts(batch: Any) -> list[Any]:
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]


def _same(one: Any, other: Any) -> bool:
    """Whether two arrays are equal in the shards that this process holds."""
    if isinstance(one, jax.Array) and isinstance(other, jax.Array) and not one.is_fully_addressable:
        shards = zip(one.addressable_shards, other.addressable_shards, strict=True)
        return one.shape == other.shape and all(_same(mine.data, others.data) for mine, others in shards)
    if one is None or other is None:
        return one is other
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and np.array_equal(one, other)


def _describe(part: Any) -> str:
    if hasattr(part, "dtype") and hasattr(part, "shape"):
        return f"{part.dtype}{list(part.shape)}"
    return repr(part)
