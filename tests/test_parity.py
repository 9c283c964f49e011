"""Every recorded result of the reference backend, with all batchings and model interfaces."""

import pytest

from parity import assert_recorded_results, case_names, data_and_tensor, eight_devices, one_device

pytestmark = [pytest.mark.usefixtures("optimized"), pytest.mark.exhaustive]

CASES = [
    ("llama", one_device, "hidden", {"batch_size": 32, "share": "equal", "pack": False}),
    ("llama", one_device, "apply", {"share": "trees"}),
    ("llama", data_and_tensor, "hidden", {"share": "trees"}),
    ("llama", eight_devices, "apply", {"tokens_per_batch": 8192, "share": False, "pack": False}),
    ("llama", eight_devices, "hidden", {"batch_size": 32, "pack": True}),
    ("llama", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("gpt2", eight_devices, "hidden", {"tokens_per_batch": 8192, "share": "equal", "pack": False}),
    ("gpt2", one_device, "hidden", {"share": "trees"}),
    ("gpt2", data_and_tensor, "hidden", {"batch_size": 32, "share": "trees"}),
    ("gpt2", one_device, "apply", {"batch_size": 16, "pack": True}),
    ("gpt2", data_and_tensor, "hidden", {"batch_size": 32, "share": False}),
    ("gpt2", eight_devices, "step", {"batch_size": 64, "chunk_length": 64}),
    ("mamba", eight_devices, "hidden", {"tokens_per_batch": 16384}),
    ("mamba", one_device, "apply", {"batch_size": 32, "share": False, "pack": False}),
    ("mamba", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("mamba", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("mamba", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("mamba", eight_devices, "step", {"batch_size": 64, "share": "forks"}),
    ("gpt2", one_device, "step", {"batch_size": 16, "share": "forks"}),
    ("llama", eight_devices, "step", {"batch_size": 64, "share": "forks", "chunk_length": 64}),
]


@pytest.mark.parametrize(("name", "mesh", "level", "options"), CASES, ids=case_names(CASES))
def test_recorded_results(evals, name, mesh, level, options):
    assert_recorded_results(evals, name, mesh, level, options)
