"""Real processes that join on this machine, with two CPU devices each by default."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@dataclass
class Host:
    """A process, and the file with its output."""

    process: subprocess.Popen
    file: Path

    @property
    def output(self) -> str:
        return self.file.read_text(errors="replace")

    @property
    def status(self) -> int | None:
        return self.process.poll()

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.process.pid, which)

    def wait_for(self, pattern: str, timeout: float) -> None:
        """Waits until the process's output matches."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.output):
            if time.monotonic() > end or self.status is not None:
                raise AssertionError(
                    f"{pattern!r} is not in the output (status {self.status}):\n{self.output}"
                )
            time.sleep(0.05)


class Hosts:
    """Several processes; the ``with`` block kills those that are still running at its end."""

    def __init__(
        self,
        folder: Path,
        commands: Sequence[Sequence[object]],
        devices: int = 2,
        variables: Sequence[Mapping[str, str]] = (),
    ) -> None:
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONUNBUFFERED": "1",
        }
        self.hosts = []
        for number, command in enumerate(commands):
            file = folder / f"process-{number}.txt"
            with file.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, *map(str, command)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**environment, **(variables[number] if variables else {})},
                    start_new_session=True,
                )
            self.hosts.append(Host(process, file))

    def __enter__(self) -> list[Host]:
        return self.hosts

    def __exit__(self, *_) -> None:
        for host in self.hosts:
            if host.status is None:
                os.killpg(host.process.pid, signal.SIGKILL)
            host.process.wait()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def finish(hosts: Sequence[Host], timeout: float) -> float:
    """Waits for all processes to end and returns the seconds; fails with all output after the timeout."""
    begin = time.monotonic()
    while any(host.status is None for host in hosts):
        if time.monotonic() - begin > timeout:
            shown = "\n".join(f"--- {host.file.name} ({host.status})\n{host.output}" for host in hosts)
            pytest.fail(f"some processes did not end within {timeout} s:\n{shown}")
        time.sleep(0.05)
    return time.monotonic() - begin


def launch_options(count: int, heartbeat: int = 60) -> list[list[object]]:
    """The arguments by which ``count`` processes of ``windrow run`` join."""
    port = free_port()
    return [
        [
            *("--coordinator", f"127.0.0.1:{port}", "--heartbeat-timeout", heartbeat),
            *("--process-count", count, "--process-id", number),
        ]
        for number in range(count)
    ]
