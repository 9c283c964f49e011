"""The folder of a run: a manifest, a journal per host, and the shards.

```text
manifest.json                 model, tokenizer, input, settings and versions; once complete, also all shards
windows-00000.jsonl           host 0's journal: a line for each window that is done, with its shard's checksum
progress-00000.jsonl          host 0's progress: a line per minute
scores/00000-000003.parquet   the shard of lot 0, window 3
```

A window is done once its journal line is on disk, which is written after its shard. If a run is killed in
between, the window is scored again.
"""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from windrow.corpus.windows import Place
from windrow.durable import Journal, checksum, read_journal, write_whole
from windrow.fingerprint import Fingerprint, differing

MANIFEST = "manifest.json"
SCORES = "scores"
_KIND = "windrow score"
_VERSIONS = ("windrow", "jax", "numpy", "pyarrow", "tokenizers")


class Folder:
    """A run's folder, on one host. Until it is closed, no other process can open it as the same host.

    Args:
        path: The folder; created if it does not exist.
        host: This host's number, from 0.

    Raises:
        OSError: It is not a folder, or not writable, or another run is writing to it.
        ValueError: It has scores but no manifest.
    """

    def __init__(self, path: str | os.PathLike[str], host: int = 0) -> None:
        self.path, self.host = Path(path), host
        try:
            (self.path / SCORES).mkdir(parents=True, exist_ok=True)
            write_whole(self.path / f".try-{host}", b"")
            (self.path / f".try-{host}").unlink()
            self._journal = Journal(self.path / f"windows-{host:05}.jsonl", alone=True)
        except BlockingIOError as error:
            raise _taken(self.path) from error
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if not (self.path / MANIFEST).exists() and any((self.path / SCORES).iterdir()):
            raise ValueError(
                f"{self.path} has scores but no {MANIFEST}; choose another folder, or delete this one"
            )

    def begin(self, fingerprint: Fingerprint) -> str:
        """Writes the manifest of a new folder, or checks that this run may resume the one in the folder.

        Returns:
            An empty string, or the reason why this run may not write to the folder.
        """
        if (self.path / MANIFEST).exists():
            try:
                return _refusal(self.path, read_manifest(self.path)["fingerprint"], fingerprint)
            except ValueError as error:
                return f"{error}; choose another folder, or delete this one"
        self._write_manifest({"fingerprint": dict(fingerprint), "complete": False})
        return ""

    def identity(self) -> str:
        """A hash of the manifest, as this host sees it; empty if it sees none."""
        if MANIFEST not in os.listdir(self.path):  # listing a network folder finds the files of other hosts
            return ""
        return checksum((self.path / MANIFEST).read_bytes())

    def windows(self) -> dict[Place, dict[str, Any]]:
        """The records of all windows that are done, from all hosts, in input order.

        Raises:
            OSError: The folder is gone.
        """
        try:
            os.listdir(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return read_windows_done(self.path)

    def check(self, records: Iterable[dict[str, Any]]) -> set[Place]:
        """Checks the shards of windows that are done, and returns the windows whose shards are missing.

        Raises:
            ValueError: A shard's checksum is wrong.
        """
        gone = set()
        for record in records:
            path = self.path / record["file"]
            if not path.exists():
                gone.add((record["lot"], record["window"]))
                continue
            data = path.read_bytes()
            if checksum(data) != record["checksum"]:
                raise ValueError(
                    f"{path} is damaged: its checksum is wrong (it has {len(data):,} bytes, "
                    f"{record['size']:,} were written); delete it and run the same command to score its "
                    "documents again"
                )
        return gone

    def add(self, record: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Writes a window's shard, then its record, and flushes both to disk.

        Returns:
            The record, with the shard's size in bytes and its checksum.

        Raises:
            OSError: They cannot be written; earlier windows are intact.
        """
        record = {**record, "size": len(data), "checksum": checksum(data)}
        try:
            write_whole(self.path / record["file"], data)
            self._journal.append(record)
            self._journal.sync()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return record

    def finish(self) -> None:
        """Marks the manifest as complete, and adds the totals and all shards to it."""
        records = list(self.windows().values())
        manifest = read_manifest(self.path)
        self._write_manifest({**manifest, "complete": True, **totals(records), "shards": records})

    def close(self) -> None:
        """Closes the journal."""
        self._journal.close()

    def _write_manifest(self, content: dict[str, Any]) -> None:
        own = {
            "kind": _KIND,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in _VERSIONS},
        }
        try:
            write_whole(self.path / MANIFEST, json.dumps({**own, **content}, indent=1).encode())
        except OSError as error:
            raise _unwritable(self.path, error) from error


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a run of ``windrow score``."""
    try:
        return bool(read_manifest(Path(path)))
    except (OSError, ValueError):
        return False


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a folder.

    Raises:
        OSError: There is none.
        ValueError: It was not written by ``windrow score``.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path / MANIFEST} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND or "fingerprint" not in manifest:
        raise ValueError(f"{path / MANIFEST} was not written by windrow score")
    return manifest


def read_windows_done(path: Path) -> dict[Place, dict[str, Any]]:
    """The records of all windows that are done, by place, in input order."""
    found = {}
    for journal in sorted(path.glob("windows-*.jsonl")):
        for record in read_journal(journal):
            found[record["lot"], record["window"]] = record
    return dict(sorted(found.items()))


def ended_lots(records: Iterable[dict[str, Any]]) -> set[int]:
    """The lots whose windows are all done; a lot's last window is marked in its record."""
    seen: dict[int, set[int]] = {}
    last: dict[int, int] = {}
    for record in records:
        seen.setdefault(record["lot"], set()).add(record["window"])
        if record["is_last"]:
            last[record["lot"]] = record["window"]
    return {lot for lot, end in last.items() if len(seen[lot]) == end + 1}


def totals(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The sums over windows: documents, tokens, bytes, words, log-likelihood, and skipped documents."""
    sums: dict[str, Any] = dict.fromkeys(("documents", "tokens", "bytes", "words"), 0)
    sums |= {"log_likelihood": 0.0, "skipped": 0}
    for record in records:
        for name in sums:
            sums[name] += len(record[name]) if name == "skipped" else record[name]
    return sums


def _refusal(path: Path, made: dict[str, Any], own: Fingerprint) -> str:
    names = differing(made, own)
    names += [name for name in made if name not in own]
    if not names:
        return ""
    changes = [_change(name, made.get(name), own.get(name)) for name in names[:3]]
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"{path} holds the scores of another run (different {'; '.join(changes)}{more}); choose another "
        "folder, or delete this one"
    )


def _change(name: str, then: Any, now: Any) -> str:
    short = all(each is None or (isinstance(each, str) and len(each) < 60) for each in (then, now))
    return f"{name}: was {then or 'nothing'}, is now {now or 'nothing'}" if short else name


def _taken(path: Path) -> OSError:
    return OSError(
        f"another process is writing scores to {path}: wait until it has ended, or choose another folder. "
        "Processes that are to share the work must find each other: start each of them with --coordinator, "
        "--process-count and --process-id, or with a launcher such as Slurm's srun"
    )


def _unwritable(path: Path, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    if not path.parent.exists() or (error.errno == 2 and not path.exists()):
        reason = "the folder is gone"
    return OSError(
        f"{path} cannot be written: {reason}; windows already written are kept; run the same command again "
        "to resume after them"
    )
