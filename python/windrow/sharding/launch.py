"""Joins the processes of a distributed run, and exits immediately when one of them fails.

If a failed process does not exit, its peers hang: JAX waits for them at exit, while they wait in a
collective. So the process prints the error and exits immediately, which makes their collectives fail too; any
other wait ends with the heartbeat timeout.

With a single process, none of this applies.
"""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread, Timer
from typing import Any, NoReturn

import jax
from jax.experimental.multihost_utils import sync_global_devices

from windrow.sharding.agreement import HostsDifferError

HEARTBEAT_TIMEOUT = 60
"""The default number of seconds after which a silent process is considered dead."""

SHUTDOWN_TIMEOUT = 600
"""The seconds that a finished process waits for the others, one of which may still be writing files."""

MEETING_SECONDS = 10
"""The seconds that processes with different work wait until all of them have printed the error."""

WAITING_SECONDS = 15.0
"""The seconds after which a process says that it waits for others to start."""

SLURM_NAMES = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
"""The environment variables of a Slurm step that JAX reads."""


@dataclass(frozen=True)
class Launch:
    """How this process finds the others.

    Attributes:
        coordinator: Process 0's address, ``host:port``; if ``None``, the launcher's
            environment variables decide.
        process_count: The number of processes; 1 means that this process runs alone, whatever the launcher.
        process_id: The index of this process, from 0.
        heartbeat_timeout: The seconds after which a silent process is considered dead.

    Raises:
        ValueError: Only some of the first three are given, or a number is out of range.
    """

    coordinator: str | None = None
    process_count: int | None = None
    process_id: int | None = None
    heartbeat_timeout: int = HEARTBEAT_TIMEOUT

    def __post_init__(self) -> None:
        """Rejects settings that would make JAX wait forever."""
        if self.heartbeat_timeout < 1:
            raise ValueError(f"--heartbeat-timeout must be at least 1 second, not {self.heartbeat_timeout}")
        if self.process_count == 1 and self.coordinator is None and self.process_id in (None, 0):
            return
        given = (self.coordinator, self.process_count, self.process_id)
        if any(one is None for one in given) and any(one is not None for one in given):
            raise ValueError(
                "give --coordinator, --process-count and --process-id together, or none of them; "
                "--process-count 1 alone runs a single process"
            )
        if self.coordinator is None or self.process_count is None or self.process_id is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"--coordinator must be HOST:PORT, not {self.coordinator!r}")
        if self.process_count < 1:
            raise ValueError(f"--process-count must be at least 1, not {self.process_count}")
        if not 0 <= self.process_id < self.process_count:
            raise ValueError(
                f"--process-id is {self.process_id}; with {self.process_count} processes it must be from 0 "
                f"to {self.process_count - 1}"
            )

    def start(self) -> bool:
        """Joins the other processes, if there are any; returns whether there are.

        Call it before JAX computes anything. With several processes, it sets ``LOCAL_RANK``, which tells
        lm_eval that only process 0 has the results, and disables the progress bars and Weights & Biases runs
        of the others.
        """
        if jax.distributed.is_initialized():
            return self._joined()
        if self.process_count == 1 or (self.coordinator is None and find_launcher(os.environ) is None):
            return False
        # JAX's preemption service would catch SIGTERM, which a scheduler sends to end a job, and carry on.
        jax.config.update("jax_enable_preemption_service", False)
        by_hand: dict[str, Any] = {}
        if self.coordinator is not None:
            by_hand = {
                "coordinator_address": self.coordinator,
                "num_processes": self.process_count,
                "process_id": self.process_id,
                "cluster_detection_method": "deactivate",
            }
        with _saying_that_it_waits(self):
            jax.distributed.initialize(
                **by_hand,
                heartbeat_timeout_seconds=self.heartbeat_timeout,
                shutdown_timeout_seconds=SHUTDOWN_TIMEOUT,
            )
        return self._joined()

    def _joined(self) -> bool:
        if jax.process_count() == 1:
            return False
        os.environ["LOCAL_RANK"] = str(jax.process_index())
        if jax.process_index():
            os.environ["TQDM_DISABLE"] = "1"
            os.environ["WANDB_MODE"] = "disabled"
        return True


@contextmanager
def _saying_that_it_waits(launch: Launch) -> Iterator[None]:
    """After a while, says what this process waits for: JAX says nothing for five minutes, and then aborts."""
    where = "" if launch.coordinator is None else f" at {launch.coordinator}"
    which = "" if launch.process_id is None else f"process {launch.process_id} of {launch.process_count} "
    words = (
        f"windrow: {which}waits for the other processes{where}. If it does not continue, check that all of "
        "them were started with the same coordinator and process count, and each with its own process id"
    )
    waiting = Timer(WAITING_SECONDS, print, [words], {"file": sys.stderr, "flush": True})
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def device_platform() -> str:
    """The platform of this process: ``"cpu"``, ``"gpu"`` or ``"tpu"``."""
    return jax.default_backend()


def find_launcher(environment: Mapping[str, str]) -> str | None:
    """The launcher that started this process as one of several, as JAX detects it, or ``None``.

    Args:
        environment: The environment variables, after ``import jax``, which records there
            whether it runs on a Cloud TPU machine.

    Raises:
        ValueError: Several processes were started in a way that JAX cannot join.

    >>> find_launcher({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}) is None  # an allocation, but no step
    True
    """
    if _number(environment, "SLURM_STEP_NUM_TASKS") > 1 and all(name in environment for name in SLURM_NAMES):
        return "Slurm"
    if (count := _number(environment, "OMPI_COMM_WORLD_SIZE")) > 1:
        if "OMPI_MCA_orte_hnp_uri" not in environment:
            raise ValueError(
                f"Open MPI started {count} processes, but this version of it does not say where the first "
                "one runs; give --coordinator HOST:PORT --process-count $OMPI_COMM_WORLD_SIZE "
                "--process-id $OMPI_COMM_WORLD_RANK"
            )
        return "Open MPI"
    if "TPU_ML_PLATFORM" not in environment:
        return None
    workers = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
    if workers is not None:
        several = "," in workers or _number(environment, "MEGASCALE_NUM_SLICES") > 1
        return "Cloud TPU" if several else None
    # JAX reads the number of workers from the machine's metadata. A single worker does not wait.
    return None if "TPU_SKIP_MDS_QUERY" in environment else "Cloud TPU"


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Exits immediately after any error inside, if there are other processes.

    The error is printed first. Without other processes, it propagates as usual. For scripts that call
    ``jax.distributed.initialize`` themselves:

    ```python
    jax.distributed.initialize(heartbeat_timeout_seconds=60)
    with windrow.sharding.leaving_at_once():
        results = lm_eval.simple_evaluate(windrow.JaxLM(...), tasks=["..."])
    ```
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, SystemExit) and error.code in (None, 0):
            raise
        leave(error)


def leave(error: BaseException) -> NoReturn:
    """Prints an error and exits without waiting for other processes."""
    print(_message(error), file=sys.stderr)
    if isinstance(error, HostsDifferError):
        # All hosts get here with the same error. Process 0's exit ends the others, so they print it first.
        sys.stderr.flush()
        waiting = Thread(target=_meet, daemon=True)
        waiting.start()
        waiting.join(MEETING_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(_status(error))


def _meet() -> None:
    with suppress(Exception):
        sync_global_devices("windrow: hosts differ")


def _message(error: BaseException) -> str:
    if isinstance(error, HostsDifferError):
        return f"windrow: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "windrow: interrupted"
    if isinstance(error, SystemExit):
        return f"windrow: {error.code}" if isinstance(error.code, str) else "windrow: stopped"
    story = "".join(traceback.format_exception(error)).rstrip()
    # If a collective runs outside a compiled step, JAX may raise a ValueError for a lost connection.
    lost = any(words in str(error) for words in ("Gloo", "closed by peer", "reset by peer"))
    if isinstance(error, jax.errors.JaxRuntimeError) or lost:
        return (
            f"{story}\nwindrow: a step that needs all processes failed. Unless this process itself caused "
            "it, another process has exited; see its output for the reason."
        )
    return f"{story}\nwindrow: {type(error).__name__}: {error}; this process exits, and the others with it"


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else 0
