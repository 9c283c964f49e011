"""Reads the batches of a dataloader in order, from any position.

A sequence is sliced. Anything else is iterated; to resume, the state of its iterator is restored if it has
one, as Grain's do, otherwise batches are skipped.

```text
dataloader          [a b c d]
resumed at 2        the slice [2:], or a new iterator that skips a and b
returned            2, and 3 after c
```
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, cast


class BatchSequence(Protocol):
    """A source of batches: a Grain ``MapDataset``, or any sequence that supports slicing."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


Read = Callable[[Any], Iterable[Any]]
"""Iterates over a slice of a `BatchSequence`."""


class BatchFeed(Iterator[Any]):
    """A dataloader's batches. The dataloader is opened, which may start workers, at the first read.

    Args:
        dataloader: A `BatchSequence`, or anything that can be iterated.
        read: How to iterate over a slice of a sequence; one batch after another by
            default.
        given: How many batches to skip.
        state: The state to restore in the dataloader's own iterator instead.
    """

    def __init__(self, dataloader: Any, read: Read | None, given: int = 0, state: Any = None) -> None:
        self._dataloader = dataloader
        self._read = read or _one_by_one
        self._given = given
        self._state = state
        self._source: Iterator[Any] | None = None
        self._is_sequence = hasattr(dataloader, "__getitem__")
        self._is_iterator = not self._is_sequence and isinstance(dataloader, Iterator)

    @property
    def is_at_start(self) -> bool:
        """Whether no batch has been returned or skipped."""
        return self._given == 0 and self._state is None

    @property
    def is_at_end(self) -> bool:
        """Whether a sequence has no batches left; unknown for other dataloaders."""
        return self._is_sequence and self._given >= len(self._dataloader)

    def __next__(self) -> Any:
        if self.is_at_end:
            self.close()
            raise StopIteration
        if self._source is None:
            self._source = self._open()
        batch = next(self._source)
        self._given += 1
        return batch

    def get_state(self) -> Any:
        """The number of batches returned, or the state of the dataloader's iterator if it has one."""
        if self._is_sequence or not hasattr(self._source, "get_state"):
            return self._given if self._state is None else self._state
        return copy.deepcopy(self._source.get_state())  # type: ignore[union-attr]

    def at(self, state: Any) -> "BatchFeed":
        """The same batches, from where `get_state` returned ``state``."""
        if not isinstance(state, int):
            return BatchFeed(self._dataloader, self._read, state=state)
        if not self._is_iterator:
            return BatchFeed(self._dataloader, self._read, state)
        if state < self._given:
            raise ValueError(
                f"dataloader is an iterator that has already yielded {self._given} batches, so it cannot go "
                f"back to batch {state}; pass the iterable that it was made from"
            )
        self._given += sum(1 for _ in islice(self._dataloader, state - self._given))
        return self

    def from_start(self) -> "BatchFeed":
        """The same batches from the first one."""
        return self.at(0)

    def pause(self) -> None:
        """Stops a sequence's workers; the next batch starts them again."""
        if self._is_sequence:
            self.close()

    def close(self) -> None:
        """Stops the workers."""
        source, self._source = self._source, None
        if (close := getattr(source, "close", None)) is not None:
            close()

    def _open(self) -> Iterator[Any]:
        if self._is_sequence:
            return iter(self._read(self._dataloader[self._given :]))
        source: Any = iter(self._dataloader)
        if self._state is not None:
            source.set_state(copy.deepcopy(self._state))
        elif not self._is_iterator:
            for _ in islice(source, self._given):
                pass
        return cast(Iterator[Any], source)


def _one_by_one(batches: BatchSequence) -> Iterator[Any]:
    return (batches[index] for index in range(len(batches)))
