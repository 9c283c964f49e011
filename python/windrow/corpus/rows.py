"""Reads the rows of an input in order, with the same methods for every format; tables are in `tables`.

``take`` returns the next rows, fewer at the end. ``skip`` skips rows without decoding them; in formats with
an index of rows, it does not read them either. A single row that cannot be read becomes a `BadRow`. If the
rest of a file cannot be read, an error names the file.
"""

import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

_DECODER = json.JSONDecoder()

_LINES = 256
"""How many lines are read before they are decoded."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and the reason."""

    reason: str


class UnreadableError(ValueError):
    """A file cannot be read, or not to its end. The message names it."""


class Rows(Protocol):
    """The rows of one input that have not been taken yet.

    A row is a mapping of columns, a text, a pair of texts, or a `BadRow`.
    """

    def take(self, count: int) -> list[Any]:
        """The next ``count`` rows, fewer at the end."""

    def skip(self, count: int) -> int:
        """Skips ``count`` rows, fewer at the end, and returns the number skipped."""

    def part(self) -> float | None:
        """The fraction of the input that has been read, from 0 to 1; ``None`` if unknown."""

    def close(self) -> None:
        """Closes the file."""


class Lines:
    """JSON lines: one JSON object per line, in UTF-8, possibly compressed. Blank lines are ignored.

    Args:
        path: The file; ``"-"`` is standard input.
    """

    def __init__(self, path: str) -> None:
        self._path, self._number = path, 0
        self._whole = None if path == "-" else max(1, Path(path).stat().st_size)
        self._stored: Any = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
        with readable(path, "opened"):
            self._file = _decompressed(path, self._stored)

    def take(self, count: int) -> list[Any]:
        """The next rows."""
        rows: list[Any] = []
        while lines := self._lines(count - len(rows)):
            rows += [_row(line) for line in lines if not line.isspace()]
        return rows

    def skip(self, count: int) -> int:
        """Skips rows."""
        skipped = 0
        while lines := self._lines(count - skipped):
            skipped += sum(not line.isspace() for line in lines)
        return skipped

    def part(self) -> float | None:
        """The fraction of the stored bytes that has been read."""
        return None if self._whole is None else min(1.0, self._stored.tell() / self._whole)

    def close(self) -> None:
        """Closes the file."""
        if self._whole is not None:
            self._stored.close()

    def _lines(self, most: int) -> list[bytes]:
        """The next lines, some of which may be blank; none at the end."""
        lines: list[bytes] = []
        try:
            lines.extend(islice(self._file, min(most, _LINES)))
        except Exception as error:
            after = self._number + len(lines)
            raise _unreadable(self._path, f"read after line {after:,}", error) from error
        self._number += len(lines)
        return lines


class Elements:
    """The elements of anything with a length and indexing: a list, a data source, a Grain ``MapDataset``.

    Args:
        elements: The elements; ``None`` is skipped.
        read: Turns an element into a row.
    """

    def __init__(self, elements: Any, read: Any = lambda element: element) -> None:
        self._elements, self._read, self._at = elements, read, 0

    def take(self, count: int) -> list[Any]:
        """The next rows."""
        stop = min(self._at + count, len(self._elements))
        several = getattr(self._elements, "__getitems__", None)
        indices = range(self._at, stop)
        found = several(list(indices)) if several and indices else [self._elements[at] for at in indices]
        self._at = stop
        return [BadRow("the element was filtered out") if row is None else self._read(row) for row in found]

    def skip(self, count: int) -> int:
        """Skips rows."""
        skipped = min(count, len(self._elements) - self._at)
        self._at += skipped
        return skipped

    def part(self) -> float:
        """The fraction of the elements that has been read."""
        return self._at / max(1, len(self._elements))

    def close(self) -> None:
        """Nothing to close."""


class Stream:
    """The elements of an iterable."""

    def __init__(self, elements: Iterable[Any]) -> None:
        self._elements = iter(elements)

    def take(self, count: int) -> list[Any]:
        """The next rows."""
        return list(islice(self._elements, count))

    def skip(self, count: int) -> int:
        """Skips rows."""
        return sum(1 for _ in islice(self._elements, count))

    def part(self) -> None:
        """Unknown."""

    def close(self) -> None:
        """Nothing to close."""


def record_rows(path: str) -> Elements:
    """The rows of an ArrayRecord file: JSON objects or UTF-8 texts, whichever the first record is."""
    from windrow.datasets import array_records

    with readable(path, "opened"):
        records = array_records(path)
        first = records[0] if len(records) else b""
    return Elements(_Records(path, records), _row if first.lstrip()[:1] == b"{" else text_of)


class _Records:
    """The records of a file; errors name it."""

    def __init__(self, path: str, records: Any) -> None:
        self._path, self._records = path, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, at: int) -> bytes:
        with readable(self._path, f"read at record {at:,}"):
            record: bytes = self._records[at]
        return record


def _decompressed(path: str, stored: Any) -> Any:
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=stored)
    if path.endswith((".zst", ".zstd")):
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(stored, "r"), "zstd"))
    return stored


@contextmanager
def readable(name: str, what: str) -> Iterator[None]:
    """Names the input in errors about its contents, of which libraries raise many kinds."""
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:
        raise _unreadable(name, what, error) from error


def _unreadable(name: str, what: str, error: Exception) -> UnreadableError:
    return UnreadableError(f"{name} cannot be {what}: {str(error) or type(error).__name__}")


def _row(line: bytes) -> Any:
    try:
        row = _parsed(line.decode())
    except UnicodeDecodeError as error:
        return BadRow(f"invalid UTF-8 at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return BadRow(f"not JSON: {error}")
    return row if isinstance(row, dict) else BadRow(f"must be a JSON object, not {type(row).__name__}")


def _parsed(text: str) -> Any:
    """``json.loads``, quicker for a line with no other whitespace around it than its end."""
    try:
        value, end = _DECODER.raw_decode(text)
        if text[end:] in ("\n", "\r\n", ""):
            return value
    except ValueError:
        pass
    return json.loads(text)


def text_of(record: bytes) -> Any:
    """A record as text; a `BadRow` if it is not UTF-8."""
    try:
        return record.decode()
    except UnicodeDecodeError as error:
        return BadRow(f"invalid UTF-8 at byte {error.start}")
