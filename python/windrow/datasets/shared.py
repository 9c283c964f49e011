"""State that datasets keep between reads: arrays that are pickled as file names, and recent reads.

Grain pickles a dataset to send it to its worker processes. A `SharedArray` is pickled as the name of a file
that the workers map, so it uses memory only once, however many workers read it.
"""

import contextlib
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value")

INLINE_BYTES = 1 << 18
"""Arrays smaller than this are stored in the pickle itself."""


class SharedArray:
    """A read-only array that worker processes map instead of receiving a copy.

    Arrays of 256 KiB and more are written to a temporary file when they are first pickled. The file is
    deleted with the array, so the pickle can be read only while the array exists.

    Attributes:
        array: The values, read-only.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array.view()
        self.array.flags.writeable = False
        self._lock = threading.Lock()
        self._path: str | None = None

    def __reduce__(self) -> tuple[Callable[..., "SharedArray"], tuple[Any, ...]]:
        if self.array.nbytes < INLINE_BYTES:
            return SharedArray, (np.asarray(self.array),)
        return _map_file, (self._file(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedArray":
        return self

    def _file(self) -> str:
        with self._lock:
            if self._path is None:
                handle, path = tempfile.mkstemp(prefix="windrow-", suffix=".npy")
                weakref.finalize(self, _remove, path, os.getpid())
                with os.fdopen(handle, "wb") as file:
                    np.save(file, self.array, allow_pickle=False)
                self._path = path
            return self._path


def _map_file(path: str) -> SharedArray:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}, which holds a large array of a pickled dataset, is gone: it is deleted together with "
            "the dataset that was pickled; keep that one alive, or build the dataset again"
        ) from error
    shared = SharedArray(mapped)
    shared._path = path
    return shared


def _remove(path: str, owner: int) -> None:
    if os.getpid() != owner:  # a forked child must not delete its parent's file
        return
    with contextlib.suppress(OSError):  # already gone, or on a system that cannot delete open files
        os.unlink(path)


class RecentReads(Generic[_Value]):
    """A cache of the most recent values by key; concurrent requests for one key read it once.

    Values that have been requested ``requests`` times are dropped first, so a thread that falls behind the
    others still finds the value it needs. Copies and pickles start empty.
    """

    def __init__(self, keep: int, requests: int = 1) -> None:
        self._keep = keep
        self._requests = requests
        self._lock = threading.Lock()
        self._slots: OrderedDict[Hashable, _Slot[_Value]] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], _Value]) -> _Value:
        """The value cached for ``key``, else the result of ``read``."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            slot.requests += 1
            self._slots.move_to_end(key)
            if len(self._slots) > self._keep:
                del self._slots[self._least_needed()]
        with slot.lock:
            if not slot.values:
                slot.values.append(read())
            return slot.values[0]

    def _least_needed(self) -> Hashable:
        """The oldest key whose requests were all served, else the oldest; never the newest."""
        keys = list(self._slots)[:-1]
        return next((key for key in keys if self._slots[key].requests >= self._requests), keys[0])

    def __reduce__(self) -> tuple[type["RecentReads[_Value]"], tuple[int, int]]:
        return RecentReads, (self._keep, self._requests)


class _Slot(Generic[_Value]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = 0
        self.values: list[_Value] = []
