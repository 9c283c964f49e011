"""Recorded results of the reference backend for the other families with attention."""

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
    ("gpt_neox", one_device, "hidden", {"batch_size": 32, "share": "trees"}),
    ("gpt_neox", eight_devices, "apply", {"batch_size": 32, "pack": True, "share": False}),
    ("gpt_neox", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("llama_yarn", one_device, "hidden", {"batch_size": 32, "share": "trees"}),
    ("llama_yarn", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("phi3", data_and_tensor, "hidden", {"batch_size": 32, "share": "trees"}),
    ("phi3", one_device, "step", {"batch_size": 64, "chunk_length": 64}),
    ("gemma2", one_device, "hidden", {"batch_size": 32, "share": "trees"}),
    ("gemma2", data_and_tensor, "hidden", {"batch_size": 32, "share": False}),
    ("gemma2", one_device, "step", {"batch_size": 64, "chunk_length": 64}),
    ("mixtral", one_device, "hidden", {"batch_size": 32, "share": "trees"}),
    ("mixtral", data_and_tensor, "hidden", {"batch_size": 32, "pack": True}),
    ("mixtral", one_device, "step", {"batch_size": 64, "chunk_length": 64}),
]


@pytest.mark.parametrize(("name", "mesh", "level", "options"), CASES, ids=case_names(CASES))
def test_recorded_results(evals, name, mesh, level, options):
    assert_recorded_results(evals, name, mesh, level, options)


@pytest.mark.parametrize("name", ["gpt_neox", "llama_yarn", "phi3", "gemma2", "mixtral"])
def test_recorded_texts(evals, name):
    assert_recorded_texts(evals, name)
