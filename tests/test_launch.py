"""Detecting launched processes, and how they join."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from command import windrow_here
from exhaustive import exhaustive
from processes import Hosts, finish
from windrow.sharding import launch
from windrow.sharding.launch import Launch, find_launcher

SLURM = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_NODELIST": "node[1-4]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1"}
TPU = {"TPU_ML_PLATFORM": "JAX"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (SLURM, "Slurm"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),  # one shell inside an allocation of four tasks
        ({name: SLURM[name] for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID")}, None),
        (OPEN_MPI, "Open MPI"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "one,two"}, "Cloud TPU"),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "one"}, None),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "one", "MEGASCALE_NUM_SLICES": "2"}, "Cloud TPU"),
        ({**TPU, "TPU_SKIP_MDS_QUERY": "1"}, None),
        (TPU, "Cloud TPU"),
        ({"TPU_WORKER_HOSTNAMES": "one,two"}, None),  # no chips here
    ],
)
def test_launchers_are_detected(environment, expected):
    assert find_launcher(environment) == expected


def test_open_mpi_without_an_address_is_refused():
    with pytest.raises(ValueError, match=r"Open MPI started 4 processes.*give --coordinator"):
        find_launcher({"OMPI_COMM_WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("here:1", None, None), "give --coordinator, --process-count and --process-id together"),
        ((None, 2, 0), "give --coordinator, --process-count and --process-id together"),
        (("here", 2, 0), "--coordinator must be HOST:PORT, not 'here'"),
        (("here:1", 0, 0), "--process-count must be at least 1, not 0"),
        (("here:1", 2, 2), "--process-id is 2; with 2 processes it must be from 0 to 1"),
        ((None, None, None, 0), "--heartbeat-timeout must be at least 1 second, not 0"),
    ],
)
def test_launches_that_would_wait_forever_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Launch(*arguments)


def test_a_process_that_waits_for_others_says_so(monkeypatch, capsys):
    monkeypatch.setattr(launch, "WAITING_SECONDS", 0.01)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: time.sleep(0.3))
    assert not Launch("here:1", 3, 1).start()  # nobody has joined
    assert "process 1 of 3 waits for the other processes at here:1. If it does" in capsys.readouterr().err
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: None)
    Launch("here:1", 3, 1).start()
    time.sleep(0.05)
    assert not capsys.readouterr().err


JOIN = """
import os, sys, jax
from windrow.sharding.launch import Launch
several = Launch(process_count=int(sys.argv[1]) if sys.argv[1:] else None).start()
print(several, jax.process_index(), jax.process_count(), os.environ.get("LOCAL_RANK"))
"""


def environment_of(variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI"))}
    return {**kept, "JAX_PLATFORMS": "cpu", **variables}


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [exhaustive({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, []), (SLURM, ["1"]), exhaustive(OPEN_MPI, ["1"])],
)
def test_single_process_does_not_wait(variables, arguments):
    result = subprocess.run(
        [sys.executable, "-c", JOIN, *arguments],
        env=environment_of(variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.split() == ["False", "0", "1", "None"], result.stderr


def port_number():
    """A free port among those that JAX derives from a job's number."""
    for number in range(os.getpid() % 4096, 4096 * 2):
        with socket.socket() as server:
            try:
                server.bind(("127.0.0.1", 61440 + number % 4096))
            except OSError:
                continue
            return number % 4096
    raise AssertionError("no free port")


@pytest.mark.parametrize("launcher", ["Slurm", exhaustive("Open MPI")])
def test_processes_of_a_launcher_join(launcher, tmp_path):
    number = port_number()
    script = tmp_path / "join.py"
    script.write_text(f"{JOIN}import time\ntime.sleep(120)\n")
    if launcher == "Slurm":
        common = {**SLURM, "SLURM_JOB_ID": number, "SLURM_STEP_NODELIST": "localhost"}
        common |= {"SLURM_NTASKS": 2, "SLURM_STEP_NUM_TASKS": 2, "SLURM_STEP_NUM_NODES": 1}
        own = [{"SLURM_PROCID": process, "SLURM_LOCALID": process} for process in range(2)]
    else:
        common = {"OMPI_COMM_WORLD_SIZE": 2, "OMPI_MCA_orte_hnp_uri": f"{number * 4096}.0;tcp://127.0.0.1:1"}
        own = [
            {"OMPI_COMM_WORLD_RANK": process, "OMPI_COMM_WORLD_LOCAL_RANK": process} for process in range(2)
        ]
    variables = [{name: str(value) for name, value in {**common, **each}.items()} for each in own]
    with Hosts(tmp_path, [[script], [script]], variables=variables) as hosts:
        for process, host in enumerate(hosts):
            host.wait_for(f"True {process} 2 {process}", 120)
        hosts[1].signal(signal.SIGTERM)  # which JAX's preemption service would ignore
        finish(hosts[1:], 20)
        assert hosts[1].status == -signal.SIGTERM


def test_command_line_removes_its_own_options():
    """The remaining options are lm_eval's; ``--help`` shows both."""
    result = windrow_here("run", "--help")
    assert result.returncode == 0
    for name in ("--coordinator", "--process-count", "--process-id", "--heartbeat-timeout", "--tasks"):
        assert name in result.stdout
    refused = windrow_here("run", "--tasks", "x", "--process-id", "1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("windrow: give --coordinator, --process-count and --process-id together")
