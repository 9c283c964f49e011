"""Recorded results of the reference backend for the other recurrent families."""

import pytest

from parity import (
    assert_recorded_results,
    assert_recorded_texts,
    case_names,
    data_and_tensor,
    eight_devices,
    one_device,
)

pytestmark = [pytest.mark.usefixtures("optimized"), pytest.mark.exhaustive]

CASES = [
    ("mamba2", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("mamba2", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("mamba2", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("mamba2", one_device, "hidden", {"batch_size": 32, "pack": True}),
    ("mamba2", one_device, "step", {"batch_size": 32, "share": "forks"}),
    ("xlstm", data_and_tensor, "step", {"batch_size": 64, "share": "forks"}),
    ("xlstm", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("xlstm", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("xlstm", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("xlstm", one_device, "hidden", {"batch_size": 32, "pack": True}),
]


@pytest.mark.parametrize(("name", "mesh", "level", "options"), CASES, ids=case_names(CASES))
def test_recorded_results(evals, name, mesh, level, options):
    assert_recorded_results(evals, name, mesh, level, options)


@pytest.mark.parametrize("name", ["mamba2", "xlstm"])
def test_recorded_texts(evals, name):
    assert_recorded_texts(evals, name)
