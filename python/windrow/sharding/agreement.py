"""Checks that every host has the same work, before any of it starts.

Every host plans independently, so hosts with different requests or settings would deadlock or, worse,
silently mix results. Process 0 broadcasts hashes, eight bytes per request, and each host's first mismatch is
gathered. All hosts then get the same answer and raise the same error.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from windrow.sharding.placing import from_host

EXCERPT_BYTES = 64
"""The number of bytes of a differing value that the error shows: of its beginning, and of where it
differs."""


class HostsDifferError(ValueError):
    """Hosts have different requests or settings. The message is the same on every host."""


def check_agreement(
    requests: Sequence[Any],
    settings: Mapping[str, str],
    request_name: Callable[[int], str] = "request {}".format,
    call: str = "check_agreement",
) -> None:
    """Raises the same error on every host if requests or settings differ between hosts.

    Every host must call it. With a single process it returns immediately.

    Args:
        requests: Something that identifies each request, such as its text; compared as ``str``.
        settings: Everything else that affects the run, by name.
        request_name: Returns the name of a request for the error; process 0's name is used.
        call: The function that needs the agreement. It is compared too, as are the names of the settings.

    Raises:
        HostsDifferError: The hosts differ; the message names them, and the first setting or request that
            differs.

    >>> check_agreement(["a text"], {"batch_size": "64"})
    """
    if jax.process_count() == 1:
        return
    counts = _counts_of_call(f"{call}({', '.join(settings)})", len(requests))
    digests = gather_from_hosts(_digests(list(settings.values())))
    for number, name in enumerate(settings):
        if (digests[:, number] != digests[0, number]).any():
            _refuse(f"the setting {name}", (digests[:, number] != digests[0, number]).any(1), settings[name])
    shared = int(counts.min())
    own = _digests([str(request) for request in requests[:shared]])
    differs = (own != _from_first_host(own)).any(1) if shared else np.zeros(0, np.bool_)
    first = int(differs.argmax()) if differs.any() else shared
    firsts = gather_from_hosts(np.array([first], np.uint32))[:, 0].astype(np.int64)
    if (firsts < shared).any() or (counts != counts[0]).any():
        index = int(firsts.min())
        here = str(requests[index]) if index < len(requests) else "(no such request)"
        called = share_from_first_host(request_name(index).encode()).decode()
        _refuse(called, (firsts == index) & (firsts < shared) | (counts != counts[0]), here)


def host_count() -> int:
    """The number of processes."""
    count: int = jax.process_count()
    return count


def host_number() -> int:
    """The number of this process, from 0."""
    number: int = jax.process_index()
    return number


def is_first_host() -> bool:
    """Whether this is process 0, the only one that writes files and shows progress."""
    return jax.process_index() == 0


def share_from_first_host(data: bytes) -> bytes:
    """Returns process 0's bytes on every host; those of other hosts are ignored. Every host must call it."""
    if jax.process_count() == 1:
        return data
    size = int(_from_first_host(np.array([len(data)], np.uint32))[0])
    room = np.zeros(size, np.uint8)
    if jax.process_index() == 0:
        room[:] = np.frombuffer(data, np.uint8)
    return _from_first_host(room).tobytes()


def check_first_host(complaint: str) -> None:
    """Raises process 0's error on every host; those of other hosts are ignored. Every host must call it.

    Args:
        complaint: The error message; empty if there is none.

    Raises:
        ValueError: Process 0 has an error.
    """
    if complaint := share_from_first_host(complaint.encode()).decode():
        raise ValueError(complaint)


def gather_from_hosts(array: NDArray[Any]) -> NDArray[Any]:
    """Gathers every host's array, ``[hosts, ...]``; shapes must match. Every host must call it."""
    return _between_hosts(array, _unchanged)


def _counts_of_call(call: str, own: int) -> NDArray[np.int64]:
    """Each host's number of requests. The gathered array has the same shape whatever a host calls."""
    gathered = gather_from_hosts(np.array([own, *_digests([call])[0]], np.uint32))
    others = (gathered[:, 1:] != gathered[0, 1:]).any(1)
    if others.any():
        _refuse("the call", others, call)
    return gathered[:, 0].astype(np.int64)


def _refuse(what: str, others: NDArray[np.bool_], here: str) -> NoReturn:
    """Raises the same error on every host, which says which hosts differ and shows two of their values."""
    hosts = np.flatnonzero(others)
    own = here.encode(errors="replace")
    theirs = share_from_first_host(own)
    equal = next(
        (at for at, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b), min(len(own), len(theirs))
    )
    differs = int(gather_from_hosts(np.array([equal], np.uint32))[hosts[0], 0])
    starts = _excerpts(own[:EXCERPT_BYTES])
    message = (
        f"hosts do not have the same work: {what} on process {', '.join(map(str, hosts))} "
        "differs from process 0's. "
        f"Process 0 has {starts[0]!r}, process {hosts[0]} has {starts[hosts[0]]!r}. "
    )
    if differs >= EXCERPT_BYTES:
        places = _excerpts(own[differs:][:EXCERPT_BYTES])
        message += f"From byte {differs} on they are {places[0]!r} and {places[hosts[0]]!r}. "
    raise HostsDifferError(message + "Start every process with the same command, files and package versions.")


def _excerpts(own: bytes) -> list[str]:
    """Each host's excerpt, on every host."""
    room = np.zeros(EXCERPT_BYTES, np.uint8)
    room[: len(own)] = np.frombuffer(own, np.uint8)
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in gather_from_hosts(room)]


def _digests(texts: Sequence[str]) -> NDArray[np.uint32]:
    """``uint32[n, 2]``: eight bytes per text, as 32-bit words because JAX truncates 64-bit ones."""
    data = b"".join(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(data, np.uint32).reshape(len(texts), 2)


def _from_first_host(array: NDArray[Any]) -> NDArray[Any]:
    own = array if is_first_host() else np.zeros_like(array)
    return _between_hosts(own, _sum)


def _between_hosts(array: NDArray[Any], combine: Callable[[jax.Array], jax.Array]) -> NDArray[Any]:
    """Combines all hosts' arrays using one device per host, so that each host receives data once."""
    first: dict[int, Any] = {}
    for device in jax.devices():
        first.setdefault(device.process_index, device)
    mesh = Mesh(np.array([first[process] for process in sorted(first)]), ("hosts",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    whole = from_host(
        (len(first), *array.shape), NamedSharding(mesh, PartitionSpec("hosts")), lambda _: array[None]
    )
    with jax.set_mesh(mesh):
        combined = jax.jit(combine, out_shardings=everywhere)(whole)
    gathered: NDArray[Any] = jax.device_get(combined.addressable_data(0))
    return gathered


def _unchanged(whole: jax.Array) -> jax.Array:
    return whole


def _sum(whole: jax.Array) -> jax.Array:
    return jnp.sum(whole, axis=0, dtype=whole.dtype)
