"""Operation counts match XLA's, and include all iterations of loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference_models import GPT2, LLAMA, random_tensors, write
from windrow.models import attention, load
from windrow.models.sight import Sight
from windrow.scoring.operations import EXPONENTIAL, operations


def shapes(rows, length):
    return [jax.ShapeDtypeStruct((rows, length), jnp.int32)] * 3


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_growth_with_length_matches_xla(config, tmp_path):
    model = load(write(tmp_path / "model", config, random_tensors(config)))

    def counted_by_xla(length):
        account = jax.jit(model.hidden).lower(model.params, *shapes(8, length)).cost_analysis()
        return account["flops"] + EXPONENTIAL * account["transcendentals"]

    def counted(length):
        return operations(model.hidden, model.params, *shapes(8, length))

    assert counted(480) / counted(120) == pytest.approx(counted_by_xla(480) / counted_by_xla(120), rel=0.1)


def test_blockwise_attention_costs_half_of_full_attention():
    positions = np.tile(np.arange(2048, dtype=np.int32), (2, 1))
    sight = Sight(positions, np.ones_like(positions))
    q = jax.ShapeDtypeStruct((2, 4, 2048, 32), jnp.float32)

    def attended(q):
        return attention.attend(q, q, q, sight, scale=0.5)

    products_and_exponentials = 2 * 4 * 2048**2 * (4 * 32 + EXPONENTIAL)
    assert operations(attended, q) == pytest.approx(products_and_exponentials / 2, rel=0.2)
