"""Crash-safe files: files that are either complete or absent, and a journal that loses only its last records.

A file is written under a temporary name, flushed to disk and renamed. A journal is append-only: each line is
a record with a checksum, so torn and damaged lines are detected and skipped.

```text
5d7a3c1f {"window": 0, "documents": 10000}
9be01822 {"window": 1, "documents": 10000}
41c6a0    <- torn by a crash; truncated when the journal is opened again
```
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from errno import ENOENT
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import finalize
from zlib import crc32


def checksum(data: bytes) -> str:
    """A hash of a file's bytes, as 32 hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file atomically: under its final name, it is complete and on disk.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):  # fails too if the folder is gone or read-only; the first error says so
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def lock(handle: int) -> None:
    """Locks an open file until it is closed, where files can be locked: not on Windows or some network disks.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to disk, if the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_journal(path: Path) -> Iterator[Any]:
    """The intact records of a journal, in order; torn and damaged lines are skipped."""
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if (record := _read(line)) is not None:
                yield record[0]


class Journal:
    """An append-only file of records. Opening it truncates a torn end.

    Args:
        path: The file; created if it does not exist.
        alone: Whether to lock the file, so that no other process can open it with this argument.

    Attributes:
        damaged: The number of lines inside the journal with a wrong checksum.

    Raises:
        OSError: The file cannot be read or written.
        BlockingIOError: Another process has it open.
    """

    def __init__(self, path: Path, alone: bool = False) -> None:
        self.path, self.damaged = path, 0
        new = not path.exists()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._closing = finalize(self, os.close, self._handle)
        if alone:
            try:
                lock(self._handle)
            except BlockingIOError:
                self.close()
                raise
        self._cut()
        if new:
            sync_folder(path.parent)

    def records(self) -> Iterator[Any]:
        """The records so far, in order."""
        return read_journal(self.path)

    def append(self, record: Any) -> None:
        """Appends a record as JSON. It survives a crash of the process and, once synced, of the machine."""
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
        line = b"%08x %b\n" % (crc32(text), text)
        while line:
            line = line[os.write(self._handle, line) :]

    def sync(self) -> None:
        """Flushes all records to disk.

        Raises:
            OSError: They cannot be written, or the file has been deleted.
        """
        os.fsync(self._handle)
        if not os.fstat(self._handle).st_nlink:
            raise FileNotFoundError(ENOENT, "it has been deleted", str(self.path))

    def close(self) -> None:
        """Closes the file. Only synced records are certain to be on disk."""
        self._closing()

    def _cut(self) -> None:
        """Truncates the file after its last intact record, and counts the damaged lines before it."""
        end = whole = bad = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            end += len(line)
            if _read(line) is None:
                bad += 1
            else:
                whole, self.damaged = end, bad
        if whole < end:
            os.truncate(self._handle, whole)
            self.sync()


def _read(line: bytes) -> tuple[Any] | None:
    """A line's record; ``None`` if the line is torn or damaged."""
    text = line[9:-1]
    if line[-1:] != b"\n" or line[:9] != b"%08x " % crc32(text):
        return None
    try:
        return (json.loads(text.decode(errors="surrogatepass")),)
    except ValueError:
        return None
