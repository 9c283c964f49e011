"""What memory the devices have for batches, and what a compiled program needs of it.

What is needed is read from the compiled program, which nothing runs for: its
arguments but the parameters, its outputs, its temporaries, less what outputs take
over from arguments. What there is, is told by the devices, or, for CPUs, by the
machine or the caller.

On CPUs this leaves things out: XLA hands some parts of a program to libraries whose
own memory is not in its account, temporaries of one program may overlap with the
next one's, and the allocator keeps some of what is freed. Processes were seen to take
up to 2.4 times what XLA says, so that only a part of a CPU's budget is planned for.
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

from windrow.sharding.agreement import gather_from_hosts
from windrow.sharding.rows import RowSharding
from windrow.sizing import show_bytes

DEVICE_SHARE = 0.9
"""How much of what a device has left is planned for; the rest is for its libraries and for gaps."""

CPU_SHARE = 0.35
"""The same for a CPU's budget, where programs take more than XLA's account of them."""

AVAILABLE_SHARE = 0.5
"""Without a budget, how much of a machine's available memory the processes on it take together."""

UNKNOWN_AVAILABLE = 4 << 30
"""What a machine is taken to have available where it does not tell."""


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of a sharding's devices that batches may take.

    Every process of the sharding must use it alike: the least of all counts.

    Attributes:
        sharding: Its devices are asked.
        asked: Bytes of each device, or of each process where devices are CPUs;
            ``None`` for what there is.
    """

    sharding: RowSharding
    asked: int | None = None

    @cached_property
    def budget(self) -> int:
        """Bytes that batches may take; the same on every host. To be asked for when parameters are placed."""
        divided = self._on_cpu and self.asked is None
        here = self._asked_of_cpu() if self._on_cpu else self._left_of_devices()
        machine = np.frombuffer(blake2b(socket.gethostname().encode(), digest_size=4).digest(), np.uint32)
        hosts = gather_from_hosts(np.array([here >> 10, machine[0], divided], np.uint32)).astype(np.int64)
        together = (hosts[:, None, 1] == hosts[None, :, 1]).sum(axis=1)
        return int((hosts[:, 0] // np.where(hosts[:, 2], together, 1)).min()) << 10

    @property
    def room(self) -> int:
        """Bytes of the budget that are planned for."""
        return int(self.budget * (CPU_SHARE if self._on_cpu else DEVICE_SHARE))

    def need(self, program: Any, arrays: Any) -> int:
        """Bytes that a program needs beside the parameters, in the memory that the budget is of.

        Args:
            program: As ``jit(...).lower(params, *arrays).compile()`` gives it.
            arrays: A pytree of ``jax.ShapeDtypeStruct`` with shardings: all but the parameters.
        """
        analyse = getattr(program, "memory_analysis", None)
        if analyse is None or (analysis := analyse()) is None:
            reason = "jax.disable_jit() is on" if analyse is None else "this backend does not tell"
            raise ValueError(
                f"'auto' follows what memory compiled programs need, and {reason}; "
                "give batch_size or tokens_per_batch as a number"
            )
        given = sum(_shard_bytes(array) for array in jax.tree.leaves(arrays))
        made = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        return int(given + made + analysis.temp_size_in_bytes) * self._sharing

    def largest_need(self, needs: list[int]) -> int:
        """The largest of all hosts' needs. Every host must call it, with as many."""
        kib = gather_from_hosts(np.array([-(-need >> 10) for need in needs], np.uint32))
        return int(kib.max(initial=0)) << 10

    def refusal(self, what: str, need: int, remedy: str) -> ValueError:
        """An error that says that not even the least fits."""
        there = f"{show_bytes(self.budget)} that there are"
        if self.asked is not None:
            there = f"{show_bytes(self.asked)} that memory_budget allows"
        return ValueError(
            f"{what} needs {show_bytes(need)} beside the parameters, and {show_bytes(self.room)} of the "
            f"{there} can be planned for; {remedy}"
        )

    @cached_property
    def _local(self) -> list[Any]:
        """This process's devices of the mesh."""
        own = jax.process_index()
        return [device for device in self.sharding.mesh.devices.flat if device.process_index == own]

    @property
    def platform(self) -> str:
        """JAX's name for the kind of the devices: ``"cpu"``, ``"gpu"``, ``"tpu"``."""
        return str(self.sharding.mesh.devices.flat[0].platform)

    @property
    def _on_cpu(self) -> bool:
        return self.platform == "cpu"

    @property
    def _sharing(self) -> int:
        """How many devices share the memory that the budget is of."""
        return max(1, len(self._local)) if self._on_cpu else 1

    def _asked_of_cpu(self) -> int:
        return int(available_bytes() * AVAILABLE_SHARE) if self.asked is None else self.asked

    def _left_of_devices(self) -> int:
        told = [stats for device in self._local if (stats := device.memory_stats())]
        left = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in told if "bytes_limit" in stats]
        if self.asked is not None:
            left.append(self.asked)
        if not left:
            raise ValueError(
                "these devices do not tell how much memory they have, which 'auto' follows; "
                "give memory_budget, or batch_size or tokens_per_batch as a number"
            )
        return int(min(left))


@contextmanager
def telling_of_memory(what: str) -> Iterator[None]:
    """Makes of JAX's error where memory runs out one that says for what, and what helps.

    Args:
        what: What was to run, with its shape.

    Raises:
        MemoryError: In place of a ``RESOURCE_EXHAUSTED`` of JAX.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"out of memory in {what}; give a smaller batch_size or tokens_per_batch, "
            "tokens_per_batch='auto' (with a memory_budget, if other work needs memory, too), or a smaller "
            f"max_length. JAX says: {str(error).splitlines()[0]}"
        ) from error


def available_bytes() -> int:
    """Bytes of this machine's memory, or of what the process may use of it, that are available."""
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
    """What is left of a container's limit."""
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
    return int(prod(shape) * np.dtype(array.dtype).itemsize)
