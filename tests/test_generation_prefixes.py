"""Prompts that share prefixes: the same texts, with fewer device tokens."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from windrow import BatchPolicy, generate
from windrow.models import load
from windrow.scoring.forks import store

EXAMPLES = " ".join(f"Question {n}: how many sheaves? Answer: {3 * n}." for n in range(12))
PROMPTS = [
    *[f"{EXAMPLES} Question {n}: what of {'abc'[n % 3] * n}?" for n in range(20)],
    *[f"{EXAMPLES[:200]} and then something else"] * 12,
    "short",
    "other",
]
"""Few-shot prompts, one prompt many times, and two without a shared prefix."""


def generated(folder, prompts=PROMPTS, temperature=0.0, devices=1, new=8, **policy):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    return generate(
        load(folder, mesh=mesh), folder, prompts, max_new_tokens=new, temperature=temperature, seed=3,
        sharding=mesh, policy=BatchPolicy(**policy),
    )  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["tiny-mamba", "tiny-llama"])
def test_sharing_does_not_change_texts(evals, name):
    folder = str(evals / "parity" / name)
    apart = generated(folder, batch_size=8, share=False)
    together = generated(folder, batch_size=8, share="forks")
    assert together.texts == apart.texts
    assert len(set(apart.texts)) >= 3
    assert together.report["prompt_tokens"] == apart.report["prompt_tokens"]
    assert together.report["read_tokens"] < 0.4 * apart.report["read_tokens"]


def test_groups_of_devices_and_waves(evals, monkeypatch):
    """Each group reads the prefixes of its own slots; a small store holds those of one wave at a time."""
    folder = str(evals / "parity" / "tiny-mamba")
    pairs = [f"{EXAMPLES[25 * task : 25 * task + 150]} {n}" for task in range(8) for n in range(3)]
    apart = generated(folder, pairs, devices=2, batch_size=4, share=False)
    monkeypatch.setattr(store, "STORE_BYTES", 1)
    together = generated(folder, pairs, devices=2, batch_size=4, share="forks")
    assert together.texts == apart.texts


def test_repeated_prompt_is_read_once(evals):
    folder, prompts = str(evals / "parity" / "tiny-mamba"), [EXAMPLES] * 32
    apart = generated(folder, prompts, temperature=1.0, batch_size=16, share=False)
    together = generated(folder, prompts, temperature=1.0, batch_size=16, share="forks")
    assert together.texts == apart.texts
    assert len(set(together.texts)) > 20
    tokens = together.report["prompt_tokens"] // 32
    assert tokens <= together.report["read_tokens"] <= tokens + 32 + 8


@pytest.mark.exhaustive
def test_prompts_of_the_maximum_length(evals):
    """Padding never exceeds the length of the cache."""
    folder = str(evals / "parity" / "tiny-llama")
    longest = load(folder).max_length
    words = " ".join(str(n) for n in range(longest))
    prompts = [words[:-cut] for cut in (1, 2, 3, 40, 80, 200)] * 2 + [EXAMPLES + str(n) for n in range(4)]
    apart = generated(folder, prompts, batch_size=4, share=False)
    together = generated(folder, prompts, batch_size=4, share="forks")
    assert together.texts == apart.texts


@pytest.mark.exhaustive
def test_number_of_slots_allows_for_stored_states(evals):
    folder = str(evals / "parity" / "tiny-llama")
    policy = {"tokens_per_batch": "auto", "memory_budget": "48MiB"}
    apart = generated(folder, batch_size=8, share=False)
    together = generated(folder, share="forks", **policy)
    assert together.texts == apart.texts


def test_short_shared_prefixes_compile_no_extra_programs(evals):
    folder = str(evals / "parity" / "tiny-mamba")
    prompts = [f"{EXAMPLES[:60]} {n}" for n in range(4)]
    assert (
        generated(folder, prompts).report["programs"]
        == generated(folder, prompts, share=False).report["programs"]
    )
