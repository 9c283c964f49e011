"""Caches values that are slow to compute in files, for other processes and later test runs."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

_FOLDER = Path(__file__).parents[1] / ".pytest_cache" / "kept"


def kept(make: Callable[[], Any], *identity: object) -> Any:
    """The result of ``make``, or the stored one for the same identity."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / hashlib.sha256(repr(identity).encode()).hexdigest()
    with FileLock(f"{file}.lock"):
        if not file.exists():
            written = file.with_suffix(".new")
            written.write_bytes(pickle.dumps(make()))
            written.replace(file)
        return pickle.loads(file.read_bytes())
