"""Prepares windows: turns rows into documents, segments and plans, while the previous window runs."""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from windrow.corpus.documents import Columns, Documents, read_documents, segments_of
from windrow.corpus.fixed import FixedShapes, Part, too_long
from windrow.corpus.source import LotRows, Placed, Share, Source
from windrow.scoring import known_tokens
from windrow.tokens import Segments, Tokenizer

T = TypeVar("T")

Place = tuple[int, int]
"""A lot, and the number of a window in it, both from 0."""


@dataclass(frozen=True)
class Read:
    """The rows of a window.

    Attributes:
        place: The lot, and the window's number in it.
        placed: The rows.
        is_last: Whether this is the lot's last window.
        part: The fraction of the source that has been read, from 0 to 1; ``None`` if unknown.
    """

    place: Place
    placed: Placed
    is_last: bool
    part: float | None


@dataclass(frozen=True)
class Window:
    """A window, ready to run.

    Attributes:
        read: Its rows.
        documents: Its documents.
        segments: Their segments.
        parts: The plans that score all segments.
        byte_counts: ``int64[n]``, the number of bytes in each scored text.
        word_counts: ``int64[n]``, the number of words in each.
    """

    read: Read
    documents: Documents
    segments: Segments
    parts: list[Part]
    byte_counts: NDArray[np.int64]
    word_counts: NDArray[np.int64]


def read_windows(
    source: Source, size: int, share: Share, done: Collection[Place], ends: Collection[int]
) -> Iterator[Read]:
    """The windows of this host that are not done yet, in order.

    Args:
        source: The source of the rows.
        size: Rows per window.
        share: Which windows this host scores.
        done: The windows that are done.
        ends: The lots whose windows are all done.
    """
    for lot in range(len(source)):
        if lot in ends or not share.may_have(lot):
            continue
        with closing(source.open(lot)) as rows:
            for number, placed, is_last in _of_lot(rows, size, partial(_is_wanted, lot, share, done)):
                yield Read((lot, number), placed, is_last, _part(source, lot, rows.part()))


def _is_wanted(lot: int, share: Share, done: Collection[Place], number: int) -> bool:
    return share.has(lot, number) and (lot, number) not in done


def _part(source: Source, lot: int, own: float | None) -> float | None:
    """The fraction of a source that has been read, given that of the current lot."""
    if own is None or source.sizes is None:
        return own
    return (sum(source.sizes[:lot]) + own * source.sizes[lot]) / max(1, sum(source.sizes))


def _of_lot(rows: LotRows, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Placed, bool]]:
    number = 0
    while True:
        if not wanted(number):
            if rows.skip(size) < size:
                return
        else:
            placed = rows.take(size)
            if not placed[1] and number:
                return
            is_last = not rows.has_more()
            yield number, placed, is_last
            if is_last:
                return
        number += 1


@dataclass(frozen=True)
class Preparation:
    """Turns rows into windows.

    Attributes:
        columns: The names of the columns.
        tokenizer: Encodes texts; ``None`` if documents are tokens.
        max_length: The maximum input length in tokens; ``None`` for no limit.
        vocabulary: The model's vocabulary size.
        fixed: The shapes of all batches.
    """

    columns: Columns
    tokenizer: Tokenizer | None
    max_length: int | None
    vocabulary: int
    fixed: FixedShapes

    def __call__(self, read: Read) -> Window:
        """A window's documents, segments and plans."""
        documents, segments = documents_of(
            read.placed, self.columns, self.tokenizer, self.max_length, self.vocabulary
        )
        longest = self.fixed.longest
        if long := too_long(segments, longest):
            reason = (
                f"longer than {longest:,} tokens, the longest row; set max_length to split it into windows"
            )
            segments = segments.without(dict.fromkeys(long, reason))
            for index in long:
                documents.skip(index, reason)
        parts = list(self.fixed.parts(segments))
        return Window(read, documents, segments, parts, *documents.sizes(self.columns.kind))


def documents_of(
    placed: Placed, columns: Columns, tokenizer: Tokenizer | None, max_length: int | None, vocabulary: int
) -> tuple[Documents, Segments]:
    """The documents of some rows, and the segments of those that can be scored."""
    documents = read_documents(columns, *placed)
    segments = segments_of(documents, columns.kind, tokenizer, max_length)
    segments = known_tokens(segments, vocabulary, "skip")
    for index, reason in segments.report.skipped.items():
        documents.skip(index, reason)
    return documents, segments


@contextmanager
def one_ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Yields the same items, computing each on another thread while the previous one is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="windrow-corpus") as pool:
        nothing = object()

        def following() -> Iterator[T]:
            coming = pool.submit(next, items, nothing)
            while (item := coming.result()) is not nothing:
                coming = pool.submit(next, items, nothing)
                yield item  # type: ignore[misc]

        yield following()
