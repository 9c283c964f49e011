"""Reads the rows of an input in order, with the same methods for every format.

``take`` returns the next rows, fewer at the end. ``skip`` skips rows without decoding them; in formats with
an index of rows, it does not read them either. A single row that cannot be read becomes a `BadRow`. If the
rest of a file cannot be read, an error names the file.
"""

import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from windrow.admission import did_you_mean

RECORDS_AT_ONCE = 4096
"""The number of rows of a columnar file that are decoded at a time."""

_DECODER = json.JSONDecoder()


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
        with _readable(path, "opened"):
            self._file = _decompressed(path, self._stored)

    def take(self, count: int) -> list[Any]:
        """The next rows."""
        return [_row(line) for line in islice(self._lines(), count)]

    def skip(self, count: int) -> int:
        """Skips rows."""
        return sum(1 for _ in islice(self._lines(), count))

    def part(self) -> float | None:
        """The fraction of the stored bytes that has been read."""
        return None if self._whole is None else min(1.0, self._stored.tell() / self._whole)

    def close(self) -> None:
        """Closes the file."""
        if self._whole is not None:
            self._stored.close()

    def _lines(self) -> Iterator[bytes]:
        while True:
            try:
                line = self._file.readline()
            except Exception as error:
                raise _unreadable(self._path, f"read after line {self._number:,}", error) from error
            if not line:
                return
            self._number += 1
            if not line.isspace():
                yield line


class Arrow:
    """The rows of a Parquet file or of a ``datasets`` folder, with only the columns that are needed.

    Args:
        path: The file or folder.
        table: Reads rows ``start`` to ``stop`` as Arrow record batches.
        count: The number of rows.
    """

    def __init__(self, path: str, table: "Tables", count: int) -> None:
        self._path, self._table, self._count, self._at = path, table, count, 0

    def take(self, count: int) -> list[Any]:
        """The next rows."""
        stop = min(self._at + count, self._count)
        with _readable(self._path, f"read at rows {self._at:,} to {stop - 1:,}"):
            rows = list(chain.from_iterable(_mappings(batch) for batch in self._table(self._at, stop)))
        self._at = stop
        return rows

    def skip(self, count: int) -> int:
        """Skips rows."""
        skipped = min(count, self._count - self._at)
        self._at += skipped
        return skipped

    def part(self) -> float:
        """The fraction of the rows that has been read."""
        return self._at / max(1, self._count)

    def close(self) -> None:
        """Closes the file."""
        self._table.close()


class Tables(Protocol):
    """Reads ranges of rows as Arrow record batches."""

    def __call__(self, start: int, stop: int, /) -> Iterable[Any]:
        """The batches of rows ``start`` to ``stop``."""

    def close(self) -> None:
        """Closes the file."""


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


def parquet_rows(path: str, columns: Sequence[str]) -> Arrow:
    """The rows of a Parquet file; row groups before the first needed row are not read.

    Raises:
        ValueError: It is not a Parquet file, or lacks a column; the message lists the columns it has.
    """
    from pyarrow import parquet

    with _readable(path, "opened"):
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    require_columns(path, columns, file.schema_arrow.names)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    batches = _Forward(file, starts, list(columns), path)
    return Arrow(path, batches, int(starts[-1]))


class _Forward:
    """Reads a Parquet file's rows in order, and remembers its position in a row group."""

    def __init__(self, file: Any, starts: Any, columns: list[str], path: str) -> None:
        self._file, self._starts, self._columns, self._path = file, starts, columns, path
        self._at = 0
        self._rest: Any = None
        self._coming: Iterator[Any] = iter(())

    def __call__(self, start: int, stop: int) -> Iterator[Any]:
        if start != self._at:
            self._open(start)
        while self._at < stop:
            if self._rest is None or not self._rest.num_rows:
                self._rest = self._next()
            batch = self._rest.slice(0, stop - self._at)
            self._rest = self._rest.slice(batch.num_rows)
            self._at += batch.num_rows
            yield batch

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _open(self, row: int) -> None:
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        self._coming, self._rest, self._at = self._of(group), None, int(self._starts[group])
        while self._at < row:
            self._rest = self._next()
            passed = min(self._rest.num_rows, row - self._at)
            self._rest = self._rest.slice(passed)
            self._at += passed

    def _next(self) -> Any:
        group = int(np.searchsorted(self._starts, self._at, "right")) - 1
        with _readable(f"row group {group} of {self._path}", "read"):
            if (batch := next(self._coming, None)) is None:
                self._coming = self._of(group)
                batch = next(self._coming)
        return batch

    def _of(self, group: int) -> Iterator[Any]:
        batches: Iterator[Any] = self._file.iter_batches(
            RECORDS_AT_ONCE, row_groups=[group], columns=self._columns
        )
        return batches


def folder_rows(path: str, columns: Sequence[str]) -> Arrow:
    """The rows of a folder that ``datasets.Dataset.save_to_disk`` wrote.

    Raises:
        ValueError: It cannot be read, holds several splits, or lacks a column.
    """
    import datasets

    with _readable(path, "opened"):
        found = datasets.load_from_disk(path)
    if isinstance(found, datasets.DatasetDict):
        raise ValueError(
            f"{path} holds the splits {', '.join(found)}; give one, such as {path}/{next(iter(found))}"
        )
    require_columns(path, columns, found.column_names)
    return Arrow(path, _Folder(found.select_columns(list(columns)).with_format("arrow")), len(found))


class _Folder:
    """Reads rows of a dataset on disk."""

    def __init__(self, arrow: Any) -> None:
        self._arrow = arrow

    def __call__(self, start: int, stop: int) -> Iterator[Any]:
        for first in range(start, stop, RECORDS_AT_ONCE):
            yield from self._arrow[first : min(first + RECORDS_AT_ONCE, stop)].to_batches()

    def close(self) -> None:
        """Its files are mapped into memory; nothing to close."""


def record_rows(path: str) -> Elements:
    """The rows of an ArrayRecord file: JSON objects or UTF-8 texts, whichever the first record is."""
    from windrow.datasets import array_records

    with _readable(path, "opened"):
        records = array_records(path)
        first = records[0] if len(records) else b""
    return Elements(_Records(path, records), _row if first.lstrip()[:1] == b"{" else _text)


class _Records:
    """The records of a file; errors name it."""

    def __init__(self, path: str, records: Any) -> None:
        self._path, self._records = path, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, at: int) -> bytes:
        with _readable(self._path, f"read at record {at:,}"):
            record: bytes = self._records[at]
        return record


def require_columns(path: str, needed: Iterable[str], names: Sequence[str]) -> None:
    """Rejects a file without a needed column.

    Raises:
        ValueError: A column is missing; the message names it and lists the columns of the file.
    """
    for name in needed:
        if name not in names:
            raise ValueError(
                f"{path} has no column {name!r}, only {', '.join(names)}{did_you_mean(name, names)}"
            )


def _decompressed(path: str, stored: Any) -> Any:
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=stored)
    if path.endswith((".zst", ".zstd")):
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(stored, "r"), "zstd"))
    return stored


@contextmanager
def _readable(name: str, what: str) -> Iterator[None]:
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


def _text(record: bytes) -> Any:
    try:
        return record.decode()
    except UnicodeDecodeError as error:
        return BadRow(f"invalid UTF-8 at byte {error.start}")


def _mappings(batch: Any) -> Iterator[Mapping[str, Any]]:
    names = batch.schema.names
    for values in zip(*(_values(column) for column in batch.columns), strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any) -> list[Any]:
    """A column's values; lists of integers stay arrays, texts with invalid UTF-8 become `BadRow`."""
    import pyarrow as pa

    kind = column.type
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_integer(kind.value_type):
        ends = column.offsets.to_numpy()
        if not column.null_count and not column.values.null_count:
            return np.split(column.flatten().to_numpy(), ends[1:-1] - ends[0]) if len(column) else []
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [value if value is None else _text(value) for value in column.cast(pa.binary()).to_pylist()]
    return values
