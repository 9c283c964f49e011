"""One of two processes: compares its part of the pipeline's global arrays with those of a single host.

python two_processes.py PROCESS PORT FOLDER
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from small_tokenizer import write_tokenizer
from windrow.lmeval_pipeline import lmeval_preprocessing_pipeline
from windrow.sharding import HostShare

ORDERS = {"in order": [0, 1, 2, 3], "interleaved": [2, 0, 3, 1]}
"""Orders of the mesh's devices; each process has two."""


def main(process: int, port: str, folder: str) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
    devices = np.array(sorted(jax.devices(), key=lambda device: (device.process_index, device.id)))
    for name, order in ORDERS.items():
        check(process, devices, Mesh(devices[order], ("data",)), folder)
        print(f"{name}, all rows are where they belong", flush=True)


def check(process: int, devices: np.ndarray, mesh: Mesh, folder: str) -> None:
    """Checks this process's rows, and the arguments that are rejected."""
    mine = Mesh(np.array(jax.local_devices()[:1]), ("data",))
    requests = [{"prefix": "a" * (number % 9), "text": "b" * (1 + number % 5)} for number in range(50)]
    tokenizer = write_tokenizer(Path(folder) / str(process))
    options = {"padding_multiple": 4, "worker_count": 0}
    loader = lmeval_preprocessing_pipeline(process, 2, mesh, requests, 8, tokenizer, **options)
    whole = lmeval_preprocessing_pipeline(0, 1, mine, requests, 8, tokenizer, **options)
    assert len(loader) == len(whole) == 7
    checked = 0
    for batch, expected in zip(loader, whole, strict=True):
        for array, values in zip(vars(batch).values(), vars(expected).values(), strict=True):
            assert array.shape == values.shape, (array.shape, values.shape)
            for shard in array.addressable_shards:
                assert np.array_equal(shard.data, np.asarray(values)[shard.index])
                checked += 1
    assert checked == 7 * 9 * 2
    check_refusals(mesh, Mesh(devices[2 - 2 * process :][:2], ("data",)), process)


def check_refusals(mesh: Mesh, of_the_other: Mesh, process: int) -> None:
    """A number of hosts that differs from the processes, and a mesh without this process."""
    with pytest.raises(ValueError, match="devices of 2 processes, but the host count is 3"):
        HostShare.on_mesh(mesh, process, 3)
    with pytest.raises(ValueError, match="devices of 1 processes, but the host count is 2"):
        HostShare.on_mesh(of_the_other, process, 2)
    with pytest.raises(ValueError, match="this process has no device in the mesh"):
        HostShare.on_mesh(of_the_other, 0, 1)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
