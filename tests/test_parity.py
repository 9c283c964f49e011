"""Every recorded result of the reference backend, however batched, at each level of the models."""

import json
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

from windrow.harness import JaxLM
from windrow.models import load

pytestmark = pytest.mark.spread


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("data",))


def eight_devices():
    return Mesh(np.array(jax.devices()), ("data",))


def data_and_tensor():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor"))
    return NamedSharding(mesh, PartitionSpec("data"))


LEVELS = {
    "apply": ("hidden", "head", "init_state", "step"),
    "hidden": ("init_state", "step"),
    "step": (),
}

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
    ("mamba2", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("mamba2", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("mamba2", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("mamba2", one_device, "hidden", {"batch_size": 32, "pack": True}),
    ("xlstm", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("xlstm", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("xlstm", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("xlstm", one_device, "hidden", {"batch_size": 32, "pack": True}),
]


@cache
def recorded(evals, name, kind):
    lines = (evals / "parity" / f"{name}.jsonl").read_text().split("\n")
    cases = [json.loads(line) for line in lines if line]
    return [(tuple(case["args"]), case["result"]) for case in cases if case["type"] == kind]


def close(value, expected):
    return abs(value - expected) <= 1e-3 + 1e-5 * abs(expected)


@pytest.mark.parametrize(
    ("name", "mesh", "level", "options"),
    CASES,
    ids=[f"{name}-{mesh.__name__}-{level}-{options}" for name, mesh, level, options in CASES],
)
def test_recorded_results(evals, name, mesh, level, options):
    where = mesh()
    directory = str(evals / "parity" / f"tiny-{name}")
    on = where.mesh if isinstance(where, NamedSharding) else where
    model = replace(load(directory, mesh=on), **dict.fromkeys(LEVELS[level]))
    lm = JaxLM(model, directory, sharding=where, max_shapes=4, **options)
    for kind in ("loglikelihood", "loglikelihood_rolling"):
        cases = recorded(evals, name, kind)
        assert cases
        requests = [Instance(kind, {}, args, index) for index, (args, _) in enumerate(cases)]
        for (args, expected), result in zip(cases, getattr(lm, kind)(requests), strict=True):
            if kind == "loglikelihood":
                assert result[1] == expected[1], args
                result, expected = result[0], expected[0]
            assert close(result, expected), args


@pytest.mark.parametrize("name", ["gpt_neox", "llama_yarn", "phi3", "gemma2", "mixtral", "mamba2", "xlstm"])
def test_recorded_texts(evals, name):
    cases = recorded(evals, name, "generate_until")
    assert len(cases) > 20
    lm = JaxLM(pretrained=str(evals / "parity" / f"tiny-{name}"), batch_size=16)
    requests = [Instance("generate_until", {}, args, index) for index, (args, _) in enumerate(cases)]
    assert lm.generate_until(requests) == [text for _, text in cases]
