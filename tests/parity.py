"""Recorded results of the reference backend, and the settings under which models must reproduce them."""

import json
from dataclasses import replace
from functools import cache

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

from windrow.harness import JaxLM
from windrow.models import load


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


@cache
def recorded(evals, name, kind):
    lines = (evals / "parity" / f"{name}.jsonl").read_text().split("\n")
    cases = [json.loads(line) for line in lines if line]
    return [(tuple(case["args"]), case["result"]) for case in cases if case["type"] == kind]


def close(value, expected):
    return abs(value - expected) <= 1e-3 + 1e-5 * abs(expected)


def case_names(cases):
    return [f"{name}-{mesh.__name__}-{level}-{options}" for name, mesh, level, options in cases]


def assert_recorded_results(evals, name, mesh, level, options):
    """Checks every recorded log-likelihood, rolling result and greedy flag."""
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


def assert_recorded_texts(evals, name):
    """Checks every recorded text."""
    cases = recorded(evals, name, "generate_until")
    assert len(cases) > 20
    lm = JaxLM(pretrained=str(evals / "parity" / f"tiny-{name}"), batch_size=16)
    requests = [Instance("generate_until", {}, args, index) for index, (args, _) in enumerate(cases)]
    assert lm.generate_until(requests) == [text for _, text in cases]
