"""Saves results in a crash-safe journal, from which the same run can resume.

Each result is a line with a checksum, appended as soon as it is computed and flushed to disk every second.
Its key is a hash of the request: its type, its arguments, and the number of equal requests before it, so that
repeated samples are stored separately. The first line is the fingerprint of the model, the tokenizer and the
settings; a journal with a different fingerprint is rejected.

```text
7c01a5f3 {"fingerprint": {"tokenizer": "9d0c…", …}}
1f99e0b2 {"key": "5e1f…", "result": [-3.25, true]}
```
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

from windrow.durable import Journal
from windrow.fingerprint import Fingerprint, mismatch
from windrow.sharding import check_first_host, is_first_host, share_from_first_host

NAME = "results.jsonl"

SYNC_SECONDS = 1.0
"""How often results are flushed to disk, in seconds. If only this process crashes, none are lost."""


class Keeper:
    """Saves results in a folder, and finds those of an earlier run. Only process 0 reads and writes it.

    Args:
        folder: The folder; ``None`` to save nothing.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder
        self._journal: Journal | None = None
        self._found: dict[str, Any] = {}
        self._began = False
        if folder is not None and is_first_host():
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._journal = Journal(Path(folder) / NAME)
        self._synced = monotonic()

    def call(
        self, kind: str, arguments: Sequence[Any], fingerprint: Callable[[], Fingerprint]
    ) -> "KeptResults":
        """The results of a call that were saved earlier. Every host must call it.

        Args:
            kind: The type of request.
            arguments: Each request's arguments.
            fingerprint: Returns the fingerprint of this run; called once.

        Raises:
            ValueError: The folder holds results of another model or other settings.
        """
        if self.folder is None:
            return KeptResults(self)
        self._begin(fingerprint)
        keys = _keys(kind, arguments) if is_first_host() else []
        known = {request: self._found[key] for request, key in enumerate(keys) if key in self._found}
        shared = json.loads(share_from_first_host(json.dumps(known).encode()))
        if shared and is_first_host():
            print(
                f"{len(shared):,} of {len(arguments):,} {kind} requests are in {self.folder}", file=sys.stderr
            )
        return KeptResults(self, keys, {int(request): result for request, result in shared.items()})

    def add(self, key: str, result: Any) -> None:
        """Appends a result.

        Raises:
            OSError: It cannot be written; earlier results are intact.
        """
        assert self._journal is not None
        with _writing(self._journal):
            self._journal.append({"key": key, "result": result})
        if monotonic() - self._synced >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Flushes all results to disk.

        Raises:
            OSError: They cannot be written, or the folder is gone.
        """
        if self._journal is not None:
            with _writing(self._journal):
                self._journal.sync()
        self._synced = monotonic()

    def _begin(self, fingerprint: Callable[[], Fingerprint]) -> None:
        if self._began:
            return
        own = fingerprint()
        complaint = "" if self._journal is None else self._read(self._journal, own)
        check_first_host(complaint)
        self._began = True

    def _read(self, journal: Journal, own: Fingerprint) -> str:
        """Reads all results; returns why this run cannot use them, or an empty string."""
        records = list(journal.records())
        made = next((record["fingerprint"] for record in records if "fingerprint" in record), None)
        if not records:
            journal.append({"fingerprint": dict(own)})
            self.sync()
        elif complaint := mismatch(str(journal.path), made, own, "choose another folder"):
            return complaint
        if journal.damaged:
            print(f"{journal.path}: recomputing damaged results ({journal.damaged})", file=sys.stderr)
        self._found = {record["key"]: record["result"] for record in records if "key" in record}
        return ""


@dataclass
class KeptResults:
    """The results of one call.

    Attributes:
        keeper: Saves them.
        keys: The key of each request, on process 0.
        known: The results of an earlier run, by request.
    """

    keeper: Keeper
    keys: list[str] = field(default_factory=list)
    known: dict[int, Any] = field(default_factory=dict)

    def add(self, request: int, result: Any) -> None:
        """Saves a request's result."""
        if self.keys:
            self.keeper.add(self.keys[request], result)


@contextmanager
def _writing(journal: Journal) -> Iterator[None]:
    """Makes errors say which file cannot be written, and what happens to the results."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{journal.path} cannot be written: {error.strerror or error}; results already written are kept; "
            "run the same command again to resume from them"
        ) from error


def _keys(kind: str, arguments: Sequence[Any]) -> list[str]:
    seen: Counter[bytes] = Counter()
    keys = []
    for each in arguments:
        text = json.dumps([kind, each], sort_keys=True, default=str).encode()
        keys.append(blake2b(b"%d %b" % (seen[text], text), digest_size=16).hexdigest())
        seen[text] += 1
    return keys
