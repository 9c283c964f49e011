"""One check that every host was given the same work, before any of it is done.

Every host plans by itself, so hosts that were given different requests or
settings would wait for each other for ever, or worse, would not. Process 0's
hashes go to all, eight bytes a request, and each host's first mismatch is
gathered; all hosts then see the same answer and raise the same error.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather
from numpy.typing import NDArray

EXCERPT_BYTES = 96
"""How much of a differing text or value each host shows the others."""


class HostsDifferError(ValueError):
    """Hosts were given different requests or settings. The message is the same on every host."""


def check_agreement(requests: Sequence[str], settings: Mapping[str, str]) -> None:
    """Refuses, on every host alike, requests or settings that are not the same on all.

    Every host must call it, with the same names of settings. A single process
    returns at once.

    Args:
        requests: What identifies each request: its text.
        settings: What else decides the run, by name.

    Raises:
        HostsDifferError: Names the hosts, and the first setting or request that differs.

    >>> check_agreement(["a text"], {"batch_size": "64"})
    """
    if jax.process_count() == 1:
        return
    counts = _gathered(np.array([len(requests)], np.uint32))[:, 0].astype(np.int64)
    digests = _gathered(_digests(list(settings.values())))
    for number, name in enumerate(settings):
        if (digests[:, number] != digests[0, number]).any():
            _refuse(f"the setting {name}", (digests[:, number] != digests[0, number]).any(1), settings[name])
    shared = int(counts.min())
    own = _digests(requests[:shared])
    differs = (own != np.asarray(broadcast_one_to_all(own))).any(1) if shared else np.zeros(0, np.bool_)
    first = int(differs.argmax()) if differs.any() else shared
    firsts = _gathered(np.array([first], np.uint32))[:, 0].astype(np.int64)
    if (firsts < shared).any() or (counts != counts[0]).any():
        index = int(firsts.min())
        here = requests[index] if index < len(requests) else "(no such request)"
        _refuse(f"request {index}", (firsts == index) & (firsts < shared) | (counts != counts[0]), here)


def is_first_host() -> bool:
    """Whether this is process 0, which alone writes files and shows progress."""
    return jax.process_index() == 0


def share_from_first_host(data: bytes) -> bytes:
    """Process 0's bytes, on every host; the other hosts' are ignored. Every host must call it."""
    if jax.process_count() == 1:
        return data
    size = int(np.asarray(broadcast_one_to_all(np.array([len(data)], np.uint32)))[0])
    room = np.zeros(size, np.uint8)
    if jax.process_index() == 0:
        room[:] = np.frombuffer(data, np.uint8)
    return np.asarray(broadcast_one_to_all(room)).astype(np.uint8).tobytes()


def _refuse(what: str, others: NDArray[np.bool_], here: str) -> NoReturn:
    """Raises the same error everywhere: which hosts differ, and what two of them hold."""
    excerpt = np.zeros(EXCERPT_BYTES, np.uint8)
    encoded = here.encode(errors="replace")[:EXCERPT_BYTES]
    excerpt[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    excerpts = [
        bytes(row).rstrip(b"\0").decode(errors="replace") for row in _gathered(excerpt).astype(np.uint8)
    ]
    hosts = np.flatnonzero(others)
    raise HostsDifferError(
        f"hosts were not given the same work: {what} on process {', '.join(map(str, hosts))} "
        "is not process 0's. "
        f"Process 0 has {excerpts[0]!r}, process {hosts[0]} has {excerpts[hosts[0]]!r}. "
        "Start every process with the same command, files and package versions."
    )


def _digests(texts: Sequence[str]) -> NDArray[np.uint32]:
    """``uint32[n, 2]``: eight bytes a text. JAX would cut 64-bit words in half without a word."""
    data = b"".join(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(data, np.uint32).reshape(len(texts), 2)


def _gathered(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(process_allgather(array))
