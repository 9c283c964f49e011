"""A dataset sorted by a key of its elements.

The order, ``int64[n]``, is computed when the first element is requested: each element is read once to get its
key, and not kept. Each epoch is sorted separately, since a shuffled or randomly mapped dataset differs from
epoch to epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np
from numpy.typing import NDArray

from windrow import planning
from windrow.datasets.indexing import admit_dataset, split_index
from windrow.datasets.shared import RecentReads, SharedArray

_EPOCHS_KEPT = 2  # prefetching reads the next epoch before this one is used up


def token_length(item: Mapping[str, Any]) -> int:
    """The length of an element in tokens, as a key to sort a dataset by.

    Args:
        item: An element with ``inputs``, an array whose last axis is the sequence.

    Raises:
        KeyError: There is no ``inputs``.

    >>> token_length({"inputs": np.array([[1, 2, 3]])})
    3
    """
    if "inputs" not in item:
        raise KeyError(f"an element has no 'inputs' to take the length of; it has {sorted(item)}")
    shape = np.shape(item["inputs"])
    if not shape:
        raise ValueError(
            "inputs of an element is a single number; it must be an array whose last axis is tokens"
        )
    return int(shape[-1])


class SortedDataset(grain.MapDataset):
    """The elements of a dataset, stably sorted by a key.

    Elements removed by a ``filter`` (``None``) come last in either direction, unless keys are passed as an
    array or a sequence.

    Args:
        dataset: The dataset to sort.
        key: The sort key: a function of an element, or the keys themselves (an array or a sequence), one per
            element. In the latter case, elements need not be read, and the keys apply to every epoch.
        reverse: Sort in descending order. Ascending is the default.

    Raises:
        TypeError: ``dataset`` is not a ``MapDataset``; or, when the order is computed,
            keys cannot be compared.
        ValueError: ``dataset`` is infinite, the number of keys differs from the number
            of elements, or, when the order is computed, a key is NaN.

    >>> SortedDataset(grain.MapDataset.source([3, 1, 2]), lambda x: x)[0]
    1
    >>> list(SortedDataset(grain.MapDataset.source("abc"), np.array([3, 1, 2]), reverse=True))
    ['a', 'c', 'b']
    """

    def __init__(
        self,
        dataset: grain.MapDataset,
        key: Callable[[Any], Any] | Sequence[Any] | NDArray[Any],
        reverse: bool = False,
    ) -> None:
        super().__init__(admit_dataset(dataset, "SortedDataset"))
        if not callable(key) and len(key) != len(dataset):
            raise ValueError(
                f"key has {len(key)} keys; dataset has {len(dataset)} elements, and each needs one"
            )
        self.dataset = dataset
        self.key = key
        self.reverse = reverse
        self._first = None if callable(key) else SharedArray(stable_order(key, reverse))
        self._orders: RecentReads[SharedArray] = RecentReads(_EPOCHS_KEPT)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        size = len(self)
        epoch, position = split_index(index, size, str(self))
        return self.dataset[epoch * size + int(self._order(epoch, size)[position])]

    def __str__(self) -> str:
        return f"SortedDataset(reverse={self.reverse})"

    __repr__ = __str__

    def __getstate__(self) -> dict[str, Any]:
        """Adds the first epoch's order, so that workers need not read all elements, and drops the keys."""
        self._order(0, len(self))
        return self.__dict__ | ({} if callable(self.key) else {"key": None})

    def _order(self, epoch: int, size: int) -> NDArray[np.int64]:
        """The order of an epoch. The first one's is cached, and used for all epochs if keys were passed."""
        key = self.key
        if self._first is not None and (epoch == 0 or not callable(key)) and len(self._first.array) == size:
            return self._first.array
        if not callable(key):
            raise ValueError(f"dataset now has {size} elements, which is not the number of given keys")
        order = self._orders.get((epoch, size), lambda: SharedArray(self._sorted(key, epoch, size)))
        if epoch == 0:
            self._first = order
        return order.array

    def _sorted(self, key: Callable[[Any], Any], epoch: int, size: int) -> NDArray[np.int64]:
        there, keys = [], []
        for position in range(size):
            if (element := self.dataset[epoch * size + position]) is not None:
                there.append(position)
                keys.append(key(element))
        order = stable_order(keys, self.reverse)
        if len(there) == size:
            return order
        present = np.array(there, np.int64)
        return np.concatenate([present[order], np.setdiff1d(np.arange(size), present)])


def stable_order(keys: Sequence[Any] | NDArray[Any], reverse: bool) -> NDArray[np.int64]:
    """The positions of ``keys`` in ascending or descending order; ties keep their order.

    Integers of up to 31 bits, such as lengths, are sorted by counting, other
    numbers by NumPy, and everything else by comparison.
    """
    array = _numbers(keys)
    if array is None:
        try:
            return np.array(sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse), np.int64)
        except TypeError as error:
            raise TypeError(f"key returned values that cannot be compared: {error}") from error
    if array.dtype.kind == "f" and (missing := np.isnan(array)).any():
        raise ValueError(f"the key of element {missing.argmax()} is NaN, which cannot be sorted")
    if array.dtype.kind in "iu" and _fits_length(array):
        return planning.length_order(array.astype(np.int32), descending=reverse)
    if reverse:
        return len(array) - 1 - np.argsort(array[::-1], kind="stable")[::-1]
    return np.argsort(array, kind="stable")


def _numbers(keys: Sequence[Any] | NDArray[Any]) -> NDArray[Any] | None:
    if isinstance(keys, np.ndarray):
        if keys.ndim != 1:
            raise ValueError(f"key must have 1 dimension, one key for each element, not {keys.ndim}")
        return keys if keys.dtype.kind in "biuf" else None
    kinds = {type(key) for key in keys}
    if all(issubclass(kind, (int, np.integer)) for kind in kinds):
        try:
            return np.fromiter(keys, np.int64, len(keys))
        except OverflowError:
            return None
    return np.fromiter(keys, np.float64, len(keys)) if kinds <= {float, np.float32, np.float64} else None


def _fits_length(keys: NDArray[Any]) -> bool:
    return len(keys) == 0 or (int(keys.min()) >= 0 and int(keys.max()) <= np.iinfo(np.int32).max)
