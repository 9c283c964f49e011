"""Reads the rows of tables: Parquet files and folders written by ``datasets``.

Only the columns that are needed are read. Rows are decoded from Arrow record batches of
:data:`RECORDS_AT_ONCE` rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np

from windrow.admission import did_you_mean
from windrow.corpus.rows import readable, text_of

RECORDS_AT_ONCE = 4096
"""The number of rows of a table that are decoded at a time."""


class Tables(Protocol):
    """Reads ranges of rows as Arrow record batches."""

    def __call__(self, start: int, stop: int, /) -> Iterable[Any]:
        """The batches of rows ``start`` to ``stop``."""

    def close(self) -> None:
        """Closes the file."""


class Arrow:
    """The rows of a Parquet file or of a ``datasets`` folder, with only the columns that are needed.

    Args:
        path: The file or folder.
        table: Reads rows ``start`` to ``stop`` as Arrow record batches.
        count: The number of rows.
    """

    def __init__(self, path: str, table: Tables, count: int) -> None:
        self._path, self._table, self._count, self._at = path, table, count, 0

    def take(self, count: int) -> list[Any]:
        """The next rows."""
        stop = min(self._at + count, self._count)
        with readable(self._path, f"read at rows {self._at:,} to {stop - 1:,}"):
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


def parquet_rows(path: str, columns: Sequence[str]) -> Arrow:
    """The rows of a Parquet file; row groups before the first needed row are not read.

    Raises:
        ValueError: It is not a Parquet file, or lacks a column; the message lists the columns it has.
    """
    from pyarrow import parquet

    with readable(path, "opened"):
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
        with readable(f"row group {group} of {self._path}", "read"):
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

    with readable(path, "opened"):
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
        return [value if value is None else text_of(value) for value in column.cast(pa.binary()).to_pylist()]
    return values
