"""lm_eval's cache of results: of this model alone, and the same on every host.

The cache knows results by their requests, not by what gave them. So what gave
them is written into a table of its own beside them, and a cache that
something else made is refused.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sqlitedict import SqliteDict

from windrow.sharding import host_count, is_first_host, share_from_first_host

_TABLE = "windrow"

Fingerprint = Mapping[str, str | list[float]]
"""By name, what decides results: texts that must be equal, and numbers that must be nearly so."""


def take_cache(cache_hook: Any, fingerprint: Callable[[], Fingerprint]) -> None:
    """Makes a cache this model's own. What process 0 has in it counts: it replaces what other hosts have.

    Every host must call it.

    Args:
        cache_hook: lm_eval's; nothing is done where it has no file.
        fingerprint: Makes what decides this model's results; called on every host.

    Raises:
        ValueError: Something else made the cache. The message is the same on every host.
    """
    store = getattr(cache_hook, "dbdict", None)
    if not isinstance(store, SqliteDict):
        return
    own = fingerprint()
    complaint = _complaint(store, own) if is_first_host() else ""
    if complaint := share_from_first_host(complaint.encode()).decode():
        raise ValueError(complaint)
    _write(store, own)
    if host_count() > 1:
        _share(store)


def _complaint(store: SqliteDict, own: Fingerprint) -> str:
    """What is wrong with a cache; empty where nothing is."""
    remedy = "name another one with use_cache, or delete this one"
    made = _read(store)
    if made is None:
        return f"the cache {store.filename} does not say what made its results; {remedy}" if store else ""
    if others := [name for name in own if not _agree(name, made.get(name), own[name])]:
        return f"the cache {store.filename} was made with another {', another '.join(others)}; {remedy}"
    return ""


def _agree(name: str, made: Any, own: str | list[float]) -> bool:
    if name == "on_bad_request" and made == "raise":
        return True  # it holds no failures
    if isinstance(own, str) or not isinstance(made, list) or len(made) != len(own):
        return bool(made == own)
    return bool(np.allclose(made, own, rtol=0.01, atol=0.1, equal_nan=True))


def _read(store: SqliteDict) -> dict[str, Any] | None:
    with SqliteDict(store.filename, tablename=_TABLE) as table:
        told = table.get("fingerprint")
    return None if told is None else dict(json.loads(told))


def _write(store: SqliteDict, own: Fingerprint) -> None:
    with SqliteDict(store.filename, tablename=_TABLE) as table:
        table["fingerprint"] = json.dumps(dict(own))
        table.commit()


def _share(store: SqliteDict) -> None:
    items = json.loads(share_from_first_host(json.dumps(dict(store) if is_first_host() else {}).encode()))
    if not is_first_host():
        store.clear()
        store.update({name: tuple(item) if isinstance(item, list) else item for name, item in items.items()})
