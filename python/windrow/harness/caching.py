"""Ties lm_eval's results cache to one model, and makes it the same on every host.

The cache is keyed by request and does not record which model produced a result. So windrow stores a
fingerprint of the model and its settings in a separate table, and rejects a cache with a different
fingerprint.
"""

import json
from collections.abc import Callable
from typing import Any

from sqlitedict import SqliteDict

from windrow.fingerprint import Fingerprint, mismatch
from windrow.sharding import check_first_host, host_count, is_first_host, share_from_first_host

_TABLE = "windrow"


def take_cache(cache_hook: Any, fingerprint: Callable[[], Fingerprint]) -> None:
    """Claims a cache for this model. Process 0's entries replace those of the other hosts.

    Every host must call it.

    Args:
        cache_hook: lm_eval's cache hook; without a file nothing happens.
        fingerprint: Returns this model's fingerprint; called on every host.

    Raises:
        ValueError: The cache belongs to another model or other settings. The message is the same on
            every host.
    """
    store = getattr(cache_hook, "dbdict", None)
    if not isinstance(store, SqliteDict):
        return
    own = fingerprint()
    complaint = _complaint(store, own) if is_first_host() else ""
    check_first_host(complaint)
    _write(store, own)
    if host_count() > 1:
        _share(store)


def _complaint(store: SqliteDict, own: Fingerprint) -> str:
    """Why a cache cannot be used; empty if it can."""
    remedy = "choose another with use_cache, or delete this one"
    made = _read(store)
    if made is None and not store:
        return ""
    return mismatch(f"the cache {store.filename}", made, own, remedy)


def _read(store: SqliteDict) -> dict[str, Any] | None:
    with SqliteDict(store.filename, tablename=_TABLE) as table:
        fingerprint = table.get("fingerprint")
    return None if fingerprint is None else dict(json.loads(fingerprint))


def _write(store: SqliteDict, own: Fingerprint) -> None:
    with SqliteDict(store.filename, tablename=_TABLE) as table:
        table["fingerprint"] = json.dumps(dict(own))
        table.commit()


def _share(store: SqliteDict) -> None:
    items = json.loads(share_from_first_host(json.dumps(dict(store) if is_first_host() else {}).encode()))
    if not is_first_host():
        store.clear()
        store.update({name: tuple(item) if isinstance(item, list) else item for name, item in items.items()})
