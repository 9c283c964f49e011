"""Padding to full batches and to common lengths.

`PadBatchDataset` appends elements until all batches are full. `PadSequenceInBatchDataset` pads the sequences
of each batch to one length, but does not stack them, so that a batch can still be distributed over devices.

```text
batches of 2, multiples of 3      [3 1 5]  [2 4]    | [2 4 3 3]      [2 4]
                                  [3 1 5]  [2 4 0]  | [2 4 3 3 0 0]  [2 4 0 0 0 0]
```
"""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np
from numpy.typing import NDArray

from windrow.admission import admit_count, kind_of
from windrow.datasets.indexing import admit_dataset, split_index
from windrow.datasets.shared import RecentReads

_BATCHES_KEPT = 32  # more than Grain has threads reading ahead


def empty_llm_indexed_sample() -> dict[str, NDArray[Any]]:
    """A padding element with all fields of an `LLMIndexedBatch`: a single token 0, segment 0, document 0.

    Returns:
        ``int32[1, 1]`` for tokens, positions and segments, ``bool[1, 1]`` for
        borders, and ``int32[1]`` for ``document_idx`` (0: no document) and
        ``sequence_idx``.

    >>> empty_llm_indexed_sample()["document_idx"]
    array([0], dtype=int32)
    """
    sequences = ("inputs", "targets", "inputs_position", "targets_position")
    segments = ("inputs_segmentation", "targets_segmentation")
    return {
        **{name: np.zeros((1, 1), np.int32) for name in sequences + segments},
        "document_idx": np.zeros(1, np.int32),
        "sequence_idx": np.zeros(1, np.int32),
        "_document_borders": np.zeros((1, 1), np.bool_),
    }


class PadBatchDataset(grain.MapDataset):
    """A dataset with ``pad_elem`` appended until all its batches are full.

    Each epoch is padded separately.

    Args:
        dataset: The dataset to pad.
        multiple_of: The global batch size; the length is rounded up to a multiple of it.
        min_length: The minimum length, used without rounding if it is larger than that
            multiple.
        pad_elem: The element to append, the same object each time.

    Raises:
        TypeError: ``dataset`` is not a ``MapDataset``.
        ValueError: ``dataset`` is infinite, ``multiple_of`` is below 1, or
            ``min_length`` below 0.

    >>> list(PadBatchDataset(grain.MapDataset.source([3, 1, 2]), multiple_of=4, min_length=0, pad_elem=0))
    [3, 1, 2, 0]
    """

    def __init__(self, dataset: grain.MapDataset, multiple_of: int, min_length: int, pad_elem: Any) -> None:
        super().__init__(admit_dataset(dataset, "PadBatchDataset"))
        self.dataset = dataset
        self.multiple_of = admit_count("multiple_of", multiple_of)
        self.min_length = admit_count("min_length", min_length, least=0)
        self.pad_elem = pad_elem

    def __len__(self) -> int:
        return max(_raised(len(self.dataset), self.multiple_of), self.min_length)

    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        epoch, position = split_index(index, len(self), str(self))
        size = len(self.dataset)
        return self.dataset[epoch * size + position] if position < size else self.pad_elem

    def __str__(self) -> str:
        return f"PadBatchDataset(multiple_of={self.multiple_of}, min_length={self.min_length})"

    __repr__ = __str__


class PadSequenceInBatchDataset(grain.MapDataset):
    """Single elements with their sequences padded to one length per batch.

    Elements are flat dictionaries of arrays. For each key, axis 1 is padded to the longest in the batch,
    rounded up to a multiple; arrays with fewer axes are unchanged. The last batch of an epoch may be smaller.
    Each element is read once, when its batch is first needed; the most recent batches are cached. Elements
    removed by a ``filter`` (``None``) stay ``None``.

    Args:
        dataset: The dataset; its elements are dictionaries of arrays.
        batch_size: The number of consecutive elements that share a length.
        multiple_of: Lengths are multiples of this.
        pad_value: The value to pad all arrays with.

    Raises:
        TypeError: ``dataset`` is not a ``MapDataset``, or an element is not a dictionary.
        KeyError: Elements of a batch have different keys.
        ValueError: ``batch_size`` or ``multiple_of`` is below 1, the arrays under a key
            differ in rank, or ``pad_value`` does not fit an array's dtype.

    >>> [element["a"].tolist() for element in PadSequenceInBatchDataset(grain.MapDataset.source(
    ...     [{"a": np.array([[3, 1, 5]])}, {"a": np.array([[2, 4]])}]), batch_size=2, multiple_of=3)]
    [[[3, 1, 5]], [[2, 4, 0]]]
    """

    def __init__(
        self, dataset: grain.MapDataset, batch_size: int, multiple_of: int = 64, pad_value: float = 0
    ) -> None:
        super().__init__(admit_dataset(dataset, "PadSequenceInBatchDataset", finite=False))
        self.dataset = dataset
        self.batch_size = admit_count("batch_size", batch_size)
        self.multiple_of = admit_count("multiple_of", multiple_of)
        self.pad_value = pad_value
        self._batches: RecentReads[_Batch] = RecentReads(_BATCHES_KEPT, self.batch_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        size = len(self)
        epoch, position = split_index(index, size, str(self))
        number, offset = divmod(position, self.batch_size)
        start = epoch * size + number * self.batch_size
        stop = min(start + self.batch_size, (epoch + 1) * size)
        batch: _Batch = self._batches.get((start, stop), lambda: self._read(start, stop))
        return batch.padded(offset, self.pad_value)

    def __str__(self) -> str:
        return f"PadSequenceInBatchDataset(batch_size={self.batch_size}, multiple_of={self.multiple_of})"

    __repr__ = __str__

    def _read(self, start: int, stop: int) -> "_Batch":
        return _Batch([self.dataset[index] for index in range(start, stop)], start, self.multiple_of)


class _Batch:
    """The elements of one batch and, per key with sequences, the length to pad to."""

    def __init__(self, elements: Sequence[Mapping[str, Any] | None], start: int, multiple_of: int) -> None:
        self.elements = elements
        present = [(start + at, element) for at, element in enumerate(elements) if element is not None]
        _check_alike(present)
        self.lengths = {
            key: _raised(max(np.shape(element[key])[1] for _, element in present), multiple_of)
            for key in (present[0][1] if present else ())
            if np.ndim(present[0][1][key]) > 1
        }

    def padded(self, offset: int, pad_value: float) -> dict[str, NDArray[Any]] | None:
        element = self.elements[offset]
        if element is None:
            return None
        return dict(element) | {
            key: _joined([np.asarray(element[key])], 1, length, np.shape(element[key])[0], pad_value)
            for key, length in self.lengths.items()
        }


def _check_alike(elements: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Rejects elements of a batch that are not dictionaries, or differ in keys or ranks."""
    for index, element in elements:
        if not isinstance(element, Mapping):
            raise TypeError(f"element {index} is {kind_of(element)}; it must be a dictionary of arrays")
        first_index, first = elements[0]
        for key in first.keys() ^ element.keys():
            without, other = (index, first_index) if key in first else (first_index, index)
            raise KeyError(
                f"element {without} has no {key!r}, which element {other} of its batch has; "
                "all must have the same keys"
            )
        for key in first:
            if np.ndim(element[key]) != np.ndim(first[key]):
                raise ValueError(
                    f"{key!r} of element {index} has {np.ndim(element[key])} dimensions, and of element "
                    f"{first_index} {np.ndim(first[key])}; elements of a batch must agree"
                )


def _pad_batch_multiple(
    batch: Sequence[NDArray[Any]],
    multiple_of: int = 64,
    axis: int = 1,
    pad_value: float = 0,
    batch_size_pad: int | None = None,
) -> NDArray[Any]:
    """Pads arrays along one axis to a common multiple and concatenates them along axis 0.

    Arrays without an axis 1, such as ``document_idx``, are only concatenated; scalars become one row each.

    Args:
        batch: Arrays of the same rank, equal in all axes but ``axis`` and 0.
        multiple_of: ``axis`` is padded to the smallest multiple of this that holds the
            largest array.
        axis: The axis to pad, usually the sequence axis.
        pad_value: The value to pad with.
        batch_size_pad: Rows of the result, reached by padding axis 0; ``None`` or 0
            adds none.

    Returns:
        A new array, of the batch's promoted dtype.

    Raises:
        ValueError: ``batch`` is empty, its arrays differ in rank or in an axis
            that is not padded, the axis does not exist, ``pad_value`` does not fit
            the dtype, or there are more than ``batch_size_pad`` rows.

    >>> _pad_batch_multiple([np.array([[1, 2]]), np.array([[11, 12, 13]])], multiple_of=4, axis=1)
    array([[ 1,  2,  0,  0],
           [11, 12, 13,  0]])
    >>> _pad_batch_multiple([np.array([7]), np.array([8])], batch_size_pad=4)
    array([7, 8, 0, 0])
    """
    multiple_of = admit_count("multiple_of", multiple_of)
    arrays = _admit_batch(batch)
    if axis == 1 and arrays[0].ndim == 1:
        arrays, axis, multiple_of = [np.concatenate(arrays)], 0, 1
    axis = _admit_axis(arrays, axis)
    length = _raised(max(array.shape[axis] for array in arrays), multiple_of)
    rows = len(arrays) * length if axis == 0 else sum(map(len, arrays))
    if batch_size_pad:
        if admit_count("batch_size_pad", batch_size_pad) < rows:
            raise ValueError(f"batch has {rows} rows, more than the {batch_size_pad} of batch_size_pad")
        rows = batch_size_pad
    return _joined(arrays, axis, length, rows, pad_value)


def _joined(
    arrays: Sequence[NDArray[Any]], axis: int, length: int, rows: int, pad_value: float
) -> NDArray[Any]:
    """Concatenates arrays in ``rows`` rows, each padded to ``length`` along ``axis``."""
    shape = list(arrays[0].shape)
    shape[axis] = length
    shape[0] = rows
    dtype = np.result_type(*arrays)
    padded = np.full(shape, _fitting(pad_value, dtype), dtype)
    start = 0
    for array in arrays:
        padded[(slice(start, start + len(array)), *map(slice, array.shape[1:]))] = array
        start += length if axis == 0 else len(array)
    return padded


def _admit_batch(batch: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Returns arrays of the same rank, which is at least 1."""
    arrays = [np.atleast_1d(array) for array in batch]
    if not arrays:
        raise ValueError("batch is empty; it must hold at least one array")
    for index, array in enumerate(arrays):
        if array.ndim != arrays[0].ndim:
            raise ValueError(
                f"batch[{index}] has {array.ndim} dimensions, batch[0] {arrays[0].ndim}; they must agree"
            )
    return arrays


def _admit_axis(arrays: Sequence[NDArray[Any]], axis: int) -> int:
    """Returns ``axis``, counted from 0, if the arrays can be padded along it and then concatenated."""
    rank = arrays[0].ndim
    if not -rank <= axis < rank:
        raise ValueError(f"axis is {axis}; the arrays of batch have {rank} dimensions")
    axis %= rank
    first, *others = ([size for at, size in enumerate(a.shape) if at not in (0, axis)] for a in arrays)
    for index, kept in enumerate(others, 1):
        if kept != first:
            raise ValueError(
                f"batch[{index}] has shape {arrays[index].shape}, batch[0] {arrays[0].shape}; "
                f"they may differ in axes 0 and {axis} only"
            )
    return axis


def _fitting(pad_value: float, dtype: np.dtype[Any]) -> Any:
    """``pad_value`` as ``dtype``, if that leaves its value unchanged."""
    with np.errstate(all="ignore"):
        value = np.asarray(pad_value).astype(dtype)
    if not np.array_equal(value, np.asarray(pad_value), equal_nan=value.dtype.kind in "fc"):
        raise ValueError(f"pad_value {pad_value!r} does not fit arrays of {dtype}; choose one that does")
    return value


def _raised(size: int, multiple_of: int) -> int:
    return -(-size // multiple_of) * multiple_of
