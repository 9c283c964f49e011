"""Sources of documents: files that match globs, standard input, or Python objects.

A source is divided into *lots*, and a lot into windows. A lot is one file, or several consecutive small
files. The rows of a window depend only on the source and the window size, so any number of hosts can divide
the windows among themselves, and a resumed run has the same windows.

```text
files     a.jsonl.gz   b.parquet   c.parquet      (the last two are small)
lots      0            1 ─────────────────────
windows   0 1 2 3 …    0 1 2 …                    10,000 rows each, the last one of a lot fewer
```
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from glob import glob, has_magic
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from windrow.admission import kind_of
from windrow.corpus.rows import Elements, Lines, Rows, Stream, record_rows
from windrow.corpus.tables import folder_rows, parquet_rows

LOT_BYTES = 64 << 20
"""A lot takes consecutive files until it has at least this many bytes."""

STDIN = "-"

Open = Callable[[str, Sequence[str]], Rows]

FORMATS: dict[str, Open] = {
    ".jsonl": lambda path, _: Lines(path),
    ".ndjson": lambda path, _: Lines(path),
    ".json": lambda path, _: Lines(path),
    ".parquet": parquet_rows,
    ".arrayrecord": lambda path, _: record_rows(path),
    ".array_record": lambda path, _: record_rows(path),
}
"""The function that opens a file, by its extension."""

COMPRESSED = (".gz", ".zst", ".zstd")
"""Extensions of compressed files, which may follow that of JSON lines."""

KNOWN = "JSON lines (.jsonl, .ndjson, .json, also .gz or .zst), Parquet (.parquet), ArrayRecord " + (
    "(.arrayrecord, .array_record), and folders written by datasets.save_to_disk"
)

Placed = tuple[list[str], list[Any]]
"""The place of each row, such as ``"a.jsonl:17"``, and the rows."""


class LotRows:
    """The rows of a lot, file by file."""

    def __init__(self, parts: Sequence[tuple[str, Callable[[], Rows]]]) -> None:
        self._parts, self._index, self._row = parts, 0, 0
        self._rows: Rows | None = parts[0][1]()
        self._next: Placed = [], []

    def take(self, count: int) -> Placed:
        """The next rows and their places, fewer at the end."""
        (places, rows), self._next = self._next, ([], [])
        while len(rows) < count and self._rows is not None:
            found = self._rows.take(count - len(rows))
            name = self._parts[self._index][0]
            places += [f"{name}:{self._row + at}" for at in range(len(found))]
            rows += found
            self._advance(len(found), len(rows) < count)
        return places, rows

    def skip(self, count: int) -> int:
        """Skips rows, fewer at the end; returns how many."""
        passed, self._next = len(self._next[1]), ([], [])
        while passed < count and self._rows is not None:
            skipped = self._rows.skip(count - passed)
            passed += skipped
            self._advance(skipped, passed < count)
        return passed

    def has_more(self) -> bool:
        """Whether there is another row."""
        if not self._next[1]:
            self._next = self.take(1)
        return bool(self._next[1])

    def part(self) -> float | None:
        """The fraction of the lot that has been read."""
        if self._rows is None:
            return 1.0
        own = self._rows.part()
        return None if own is None else (self._index + own) / len(self._parts)

    def close(self) -> None:
        """Closes the file that is open."""
        if self._rows is not None:
            self._rows.close()

    def _advance(self, rows: int, ended: bool) -> None:
        self._row += rows
        if ended:
            self.close()
            self._index, self._row = self._index + 1, 0
            more = self._index < len(self._parts)
            self._rows = self._parts[self._index][1]() if more else None


class Source(Protocol):
    """Documents in lots.

    Attributes:
        name: A description, for error messages.
        sizes: The size of each lot in bytes; ``None`` if unknown.
        is_one_time: Whether it can be read only once, like standard input.
    """

    name: str
    sizes: list[int] | None
    is_one_time: bool

    def __len__(self) -> int: ...

    def open(self, lot: int) -> LotRows:
        """The rows of a lot, from its beginning."""

    def sample(self, count: int) -> Placed:
        """The first rows of the first lot."""

    def identity(self) -> dict[str, str]:
        """What must be unchanged for a run to resume, by name."""


class FileSource:
    """Files and folders that match patterns, in the order of their paths.

    Args:
        patterns: Paths, globs or folders.
        columns: The columns that are needed.

    Raises:
        FileNotFoundError: A pattern matches nothing.
        ValueError: A file has an unknown format; the message lists the supported ones.
    """

    def __init__(self, patterns: Sequence[str], columns: Sequence[str]) -> None:
        self.name, self.is_one_time = " ".join(patterns), False
        paths = list(dict.fromkeys(chain.from_iterable(_matching(pattern) for pattern in patterns)))
        self._columns = list(columns)
        self._openers = {path: _opener(path) for path in paths}
        top = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
        self._names = {path: os.path.relpath(os.path.abspath(path), top) for path in paths}
        self._stored = {path: _stored(path) for path in paths}
        self._lots = _lots(paths, {path: size for path, (size, _) in self._stored.items()})
        self.sizes: list[int] | None = [sum(self._stored[path][0] for path in lot) for lot in self._lots]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the functions that open files."""
        return {name: value for name, value in vars(self).items() if name != "_openers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Finds the functions again."""
        vars(self).update(state, _openers={path: _opener(path) for path in state["_names"]})

    def __len__(self) -> int:
        """The number of lots."""
        return len(self._lots)

    def open(self, lot: int) -> LotRows:
        """The rows of a lot, from its beginning."""
        return LotRows([(self._names[path], self._opening(path)) for path in self._lots[lot]])

    def sample(self, count: int) -> Placed:
        """The first rows of the first lot that has any."""
        for lot in range(len(self)):
            with closing(self.open(lot)) as rows:
                placed = rows.take(count)
            if placed[1]:
                return placed
        return [], []

    def identity(self) -> dict[str, str]:
        """The size of each file, and when it was last changed."""
        return {
            self._names[path]: f"{size:,} bytes, changed at {changed}"
            for path, (size, changed) in self._stored.items()
        }

    def _opening(self, path: str) -> Callable[[], Rows]:
        return lambda: self._openers[path](path, self._columns)


class ObjectSource:
    """A sequence, a data source, a Grain dataset or any other iterable, as one lot.

    Args:
        elements: Texts, pairs of texts, or mappings of columns.
        name: A description, for error messages and for the places of rows.
    """

    def __init__(self, elements: Any, name: str) -> None:
        self.name = name
        self.sizes: list[int] | None = None
        self._elements = elements
        self._indexed = _is_indexed(elements)
        self.is_one_time = not self._indexed and hasattr(type(elements), "__next__")
        self._head: list[Any] = []

    def __len__(self) -> int:
        """One lot."""
        return 1

    def open(self, lot: int) -> LotRows:  # noqa: ARG002  there is one
        """The rows, from the first one."""
        return LotRows([(self.name, self._rows)])

    def sample(self, count: int) -> Placed:
        """The first rows. An iterator yields them again when it is opened."""
        if not self.is_one_time:
            return self.open(0).take(count)
        self._head += islice(self._elements, max(0, count - len(self._head)))
        return LotRows([(self.name, lambda: Stream(self._head[:count]))]).take(count)

    def identity(self) -> dict[str, str]:
        """A hash of its first rows, and its length if it has one."""
        _, rows = self.sample(64)
        digest = blake2b(repr(rows).encode(errors="replace"), digest_size=8).hexdigest()
        length = f"{len(self._elements):,} rows, " if self._indexed else ""
        return {self.name: f"{length}first rows {digest}"}

    def _rows(self) -> Rows:
        if self._indexed:
            return Elements(self._elements)
        return Stream(chain(self._head, self._elements) if self.is_one_time else self._elements)


def source_of(requests: Any, columns: Sequence[str]) -> Source:
    """The source for requests: paths, or the documents themselves.

    Raises:
        TypeError: They are neither.
        FileNotFoundError, ValueError: See `FileSource`.
    """
    if isinstance(requests, os.PathLike | str):
        requests = Paths([str(requests)])
    if isinstance(requests, Paths):
        if STDIN not in requests:
            return FileSource(requests, columns)
        if len(requests) > 1:
            raise ValueError("standard input (-) cannot be combined with files; give one of them")
        return ObjectSource(_stdin(), "stdin")
    readable = _is_indexed(requests) or hasattr(type(requests), "__iter__")
    if isinstance(requests, Mapping | bytes) or not readable:
        raise TypeError(
            "requests must be a path or glob, a sequence, a Grain dataset or an iterable of documents, not "
            f"{kind_of(requests)}"
        )
    return ObjectSource(requests, "documents")


class Paths(list[str]):
    """A list of paths and globs; a plain list of strings would be one of texts."""


def _is_indexed(elements: Any) -> bool:
    return hasattr(type(elements), "__len__") and hasattr(type(elements), "__getitem__")


def _stdin() -> Iterator[Any]:
    lines = Lines(STDIN)
    while rows := lines.take(1):
        yield rows[0]


def _matching(pattern: str) -> list[str]:
    found = sorted(glob(pattern, recursive=True)) if has_magic(pattern) else [pattern]
    if not has_magic(pattern) and not os.path.exists(pattern):
        raise FileNotFoundError(f"--input {pattern!r} does not exist")
    paths = []
    for path in found:
        if os.path.isdir(path) and not _is_dataset(path):
            paths += sorted(str(file) for file in Path(path).rglob("*") if _format(str(file)))
        elif os.path.isfile(path) or not has_magic(pattern) or _is_dataset(path):
            paths.append(path)
    if not paths:
        raise FileNotFoundError(f"--input {pattern!r} matches no file of a supported format: {KNOWN}")
    return paths


def _is_dataset(path: str) -> bool:
    return os.path.isdir(path) and any(
        os.path.exists(os.path.join(path, name)) for name in ("state.json", "dataset_dict.json")
    )


def _format(path: str) -> str | None:
    """A file's extension without that of its compression; ``None`` if it is unknown."""
    name = path
    compressed = next((ending for ending in COMPRESSED if name.endswith(ending)), "")
    name = name.removesuffix(compressed)
    found = next((ending for ending in FORMATS if name.lower().endswith(ending)), None)
    return found if not compressed or found in (".jsonl", ".ndjson", ".json") else None


def _opener(path: str) -> Open:
    if _is_dataset(path):
        return folder_rows
    found = _format(path)
    if found is None:
        raise ValueError(f"--input {path!r} has an unknown format; supported are {KNOWN}")
    return FORMATS[found]


def _stored(path: str) -> tuple[int, int]:
    """The size of a file or folder in bytes, and when it was last changed, in nanoseconds."""
    files = (
        [file for file in Path(path).rglob("*") if file.is_file()] if os.path.isdir(path) else [Path(path)]
    )
    stats = [file.stat() for file in files]
    return sum(each.st_size for each in stats), max((each.st_mtime_ns for each in stats), default=0)


def _lots(paths: Sequence[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """Consecutive files, in lots of at least :data:`LOT_BYTES`, except the last."""
    lots: list[list[str]] = []
    room = 0
    for path in paths:
        if room <= 0:
            lots.append([])
            room = LOT_BYTES
        lots[-1].append(path)
        room -= sizes[path]
    return lots


@dataclass(frozen=True)
class Share:
    """The windows that this host scores: those of every ``parts``-th lot, or every ``parts``-th window.

    Hosts divide the lots if there are at least 8 per host, and otherwise the windows of each lot.

    Attributes:
        lots: The number of lots.
        part: This host, from 0.
        parts: The number of hosts.
    """

    lots: int
    part: int = 0
    parts: int = 1

    def has(self, lot: int, window: int) -> bool:
        """Whether this host scores a window.

        >>> [Share(2, 1, 3).has(0, window) for window in range(6)]
        [False, True, False, False, True, False]
        """
        by_lots = self.lots >= 8 * self.parts
        return (lot if by_lots else lot + window) % self.parts == self.part

    def may_have(self, lot: int) -> bool:
        """Whether this host scores any window of a lot."""
        return self.lots < 8 * self.parts or lot % self.parts == self.part
