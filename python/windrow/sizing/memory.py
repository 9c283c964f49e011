"""Measures the memory available for batches, and the memory that a compiled program needs.

The need is read from the compiled program without running it: its arguments except the parameters, its
outputs and its temporaries, minus outputs that alias arguments. The available memory comes from the devices
or, on CPUs, from the machine or the caller.

On CPUs, this is an underestimate: XLA does not count the memory of libraries that it calls, the temporaries
of consecutive programs may overlap, and the allocator keeps some freed memory. Processes were measured at up
to 2.4 times XLA's figure, so only part of a CPU's budget is used.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windrow.admission import show_bytes
from windrow.sharding.agreement import gather_from_hosts
from windrow.sharding.rows import RowSharding

DEVICE_SHARE = 0.9
"""The fraction of a device's free memory to use; the rest is for its libraries and for fragmentation."""

CPU_SHARE = 0.35
"""The fraction of a CPU's budget to use; programs take more memory than XLA reports."""

AVAILABLE_SHARE = 0.5
"""The fraction of a machine's available memory that all processes on it use together, without a budget."""

UNKNOWN_AVAILABLE = 4 << 30
"""The available memory to assume if the machine does not report it, in bytes."""


@dataclass(frozen=True)
class DeviceMemory:
    """The memory that batches may use on a sharding's devices.

    Every process of the sharding must make the same calls; the smallest value applies.

    Attributes:
        sharding: The sharding whose devices are used.
        asked: Bytes per device, or per process if the devices are CPUs; ``None`` for all
            that is available.
    """

    sharding: RowSharding
    asked: int | None = None

    @cached_property
    def budget(self) -> int:
        """The bytes that batches may use, the same on every host. Access it after placing the parameters."""
        divided = self._on_cpu and self.asked is None
        here = self._asked_of_cpu() if self._on_cpu else self._left_of_devices()
        machine = np.frombuffer(blake2b(socket.gethostname().encode(), digest_size=4).digest(), np.uint32)
        hosts = gather_from_hosts(np.array([here >> 10, machine[0], divided], np.uint32)).astype(np.int64)
        together = (hosts[:, None, 1] == hosts[None, :, 1]).sum(axis=1)
        return int((hosts[:, 0] // np.where(hosts[:, 2], together, 1)).min()) << 10

    @property
    def room(self) -> int:
        """The bytes of the budget that are used for planning."""
        return int(self.budget * (CPU_SHARE if self._on_cpu else DEVICE_SHARE))

    def need(self, program: Any, arrays: Any) -> int:
        """The bytes that a program needs in addition to the parameters.

        Args:
            program: The result of ``jit(...).lower(params, *arrays).compile()``.
            arrays: A pytree of ``jax.ShapeDtypeStruct`` with shardings: all arguments except the parameters.
        """
        analyse = getattr(program, "memory_analysis", None)
        if analyse is None or (analysis := analyse()) is None:
            reason = "jax.disable_jit() is on" if analyse is None else "this backend does not report it"
            raise ValueError(
                f"'auto' depends on the memory that compiled programs need, but {reason}; "
                "set batch_size or tokens_per_batch to a number"
            )
        given = sum(_shard_bytes(array) for array in jax.tree.leaves(arrays))
        made = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        return int(given + made + analysis.temp_size_in_bytes) * self._sharing

    def largest_need(self, needs: list[int]) -> int:
        """The largest need of all hosts. Every host must call it, with the same number of needs."""
        kib = gather_from_hosts(np.array([-(-need >> 10) for need in needs], np.uint32))
        return int(kib.max(initial=0)) << 10

    def refusal(self, what: str, need: int, remedy: str) -> ValueError:
        """The error for when not even the smallest possible batch fits."""
        there = f"{show_bytes(self.budget)} available"
        if self.asked is not None:
            there = f"{show_bytes(self.asked)} allowed by memory_budget"
        return ValueError(
            f"{what} needs {show_bytes(need)} in addition to the parameters, but only "
            f"{show_bytes(self.room)} of the {there} can be used; {remedy}"
        )

    @cached_property
    def _local(self) -> list[Any]:
        """This process's devices of the mesh."""
        own = jax.process_index()
        return [device for device in self.sharding.mesh.devices.flat if device.process_index == own]

    @property
    def platform(self) -> str:
        """JAX's name for the devices' platform: ``"cpu"``, ``"gpu"`` or ``"tpu"``."""
        return self.sharding.platform

    @property
    def _on_cpu(self) -> bool:
        return self.platform == "cpu"

    @property
    def _sharing(self) -> int:
        """The number of devices that share the budget's memory."""
        return max(1, len(self._local)) if self._on_cpu else 1

    def _asked_of_cpu(self) -> int:
        return int(available_bytes() * AVAILABLE_SHARE) if self.asked is None else self.asked

    def _left_of_devices(self) -> int:
        reported = [stats for device in self._local if (stats := device.memory_stats())]
        left = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in reported if "bytes_limit" in stats]
        if self.asked is not None:
            left.append(self.asked)
        if not left:
            raise ValueError(
                "these devices do not report how much memory they have, which 'auto' depends on; "
                "set memory_budget, or set batch_size or tokens_per_batch to a number"
            )
        return int(min(left))


@contextmanager
def explained_memory_errors(what: object) -> Iterator[None]:
    """Replaces JAX's out-of-memory error with one that names the batch and the settings that help.

    Args:
        what: A description of the work, with its shape.

    Raises:
        MemoryError: In place of JAX's ``RESOURCE_EXHAUSTED``.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"out of memory in {what}; lower batch_size or tokens_per_batch, use tokens_per_batch='auto' "
            "(with a memory_budget if other programs need memory too), or lower max_length. "
            f"JAX says: {str(error).splitlines()[0]}"
        ) from error


def available_bytes() -> int:
    """The bytes of available memory on this machine, or within this process's container limit."""
    known = [_meminfo(), _free_in_group()]
    return min((number for number in known if number is not None), default=UNKNOWN_AVAILABLE)


def _meminfo() -> int | None:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) << 10
    names = ("SC_AVPHYS_PAGES", "SC_PAGE_SIZE")
    if not set(names) <= set(getattr(os, "sysconf_names", ())):
        return None
    return int(os.sysconf(names[0])) * int(os.sysconf(names[1]))


def _free_in_group() -> int | None:
    """The free part of a container's memory limit."""
    for folder, limit, usage in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            return max(
                0, int(Path(folder, limit).read_text().strip()) - int(Path(folder, usage).read_text().strip())
            )
        except (OSError, ValueError):
            continue
    return None


def _shard_bytes(array: Any) -> int:
    shape = array.shape if array.sharding is None else array.sharding.shard_shape(array.shape)
    return int(prod(shape) * array.dtype.itemsize)
