"""Turns rows into windows of documents, segments and plans, while the previous window runs."""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from windrow.corpus.documents import Columns, Documents, read_documents, segments_of
from windrow.corpus.fixed import FixedShapes, too_long
from windrow.corpus.source import LotRows, Placed, Share, Source
from windrow.scoring import Part, known_tokens
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
class Encoded:
    """A window's documents as tokens.

    Attributes:
        place: The lot, and the window's number in it.
        is_last: Whether this is the lot's last window.
        part: The fraction of the source that has been read, from 0 to 1; ``None`` if unknown.
        documents: Its documents, without their contents.
        segments: Their segments.
        byte_counts: ``int64[n]``, the number of bytes in each scored text.
        word_counts: ``int64[n]``, the number of words in each.
    """

    place: Place
    is_last: bool
    part: float | None
    documents: Documents
    segments: Segments
    byte_counts: NDArray[np.int64]
    word_counts: NDArray[np.int64]


@dataclass(frozen=True)
class Window(Encoded):
    """A window, ready to run.

    Attributes:
        parts: The plans that score all segments.
    """

    parts: list[Part]


@dataclass(frozen=True)
class Reading:
    """Reads and encodes windows.

    Attributes:
        source: The source of the rows.
        size: Rows per window.
        share: Which windows this host scores.
        done: The windows that are done.
        ends: The lots whose windows are all done.
        columns: The names of the columns.
        tokenizer: Encodes texts; ``None`` if documents are tokens.
        max_length: The maximum input length in tokens; ``None`` for no limit.
    """

    source: Source
    size: int
    share: Share
    done: Collection[Place]
    ends: Collection[int]
    columns: Columns
    tokenizer: Tokenizer | None
    max_length: int | None

    def rows(self) -> Iterator[Read]:
        """The rows of the windows of this host that are not done yet, in order."""
        for lot in range(len(self.source)):
            if lot in self.ends or not self.share.may_have(lot):
                continue
            with closing(self.source.open(lot)) as rows:
                for number, placed, is_last in _of_lot(rows, self.size, partial(self._is_wanted, lot)):
                    yield Read((lot, number), placed, is_last, _part(self.source, lot, rows.part()))

    def _is_wanted(self, lot: int, number: int) -> bool:
        return self.share.has(lot, number) and (lot, number) not in self.done

    def encode(self, read: Read) -> Encoded:
        """The documents of a window."""
        documents, segments = documents_of(read.placed, self.columns, self.tokenizer, self.max_length)
        sizes = documents.sizes(self.columns.kind)
        documents = replace(documents, contents=[])
        return Encoded(read.place, read.is_last, read.part, documents, segments, *sizes)


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
    """Plans encoded windows.

    Attributes:
        vocabulary: The model's vocabulary size.
        fixed: The shapes of all batches.
    """

    vocabulary: int
    fixed: FixedShapes

    def __call__(self, encoded: Encoded) -> Window:
        """The plans of a window's segments that can be scored."""
        documents, longest = encoded.documents, self.fixed.longest
        segments = of_known_tokens(documents, encoded.segments, self.vocabulary)
        if long := too_long(segments, longest):
            reason = (
                f"longer than {longest:,} tokens, the longest row; set max_length to split it into windows"
            )
            reasons = dict.fromkeys(long, reason)
            segments = segments.without(reasons)
            documents.skip_all(reasons)
        parts = list(self.fixed.parts(segments))
        return Window(**vars(encoded) | {"segments": segments}, parts=parts)


def documents_of(
    placed: Placed, columns: Columns, tokenizer: Tokenizer | None, max_length: int | None
) -> tuple[Documents, Segments]:
    """The documents of some rows, and the segments of those that can be encoded."""
    documents = read_documents(columns, *placed)
    segments = segments_of(documents, columns.kind, tokenizer, max_length)
    documents.skip_all(segments.report.skipped)
    return documents, segments


def of_known_tokens(documents: Documents, segments: Segments, vocabulary: int) -> Segments:
    """The segments without those of documents with a token outside the vocabulary, which are skipped."""
    segments = known_tokens(segments, vocabulary, "skip")
    documents.skip_all(segments.report.skipped)
    return segments


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
