"""The attention kernel for GPUs, interpreted on a CPU, compared with attention in blocks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windrow.models.attention import _fused, attend
from windrow.models.fused_attention import fused_attention
from windrow.models.sight import Sight
from windrow.scoring.operations import EXPONENTIAL, operations

KERNEL = {"scale": 0.2}


def tree_row(length, stem, branch):
    """A stem, branches that continue it, and five tokens of padding."""
    end = length - 5
    positions, ids, reach = (np.zeros((1, length), np.int32) for _ in range(3))
    positions[0, :stem], reach[0, :stem] = np.arange(stem), end
    for start in range(stem, end, branch):
        stop = min(start + branch, end)
        positions[0, start:stop], reach[0, start:stop] = stem + np.arange(stop - start), stop
    ids[0, :end], reach[0, end:] = 1, length
    return Sight(*map(jnp.asarray, (positions, ids, reach)))


def packed_row(length, *lengths):
    positions, ids = (np.zeros((1, length), np.int32) for _ in range(2))
    start = 0
    for number, size in enumerate(lengths):
        positions[0, start : start + size] = np.arange(size)
        ids[0, start : start + size] = number + 1
        start += size
    return Sight(*map(jnp.asarray, (positions, ids)))


CASES = {
    "a tree": (tree_row(100, 20, 13), 24, 2, 2, {}),
    "a tree, windowed": (tree_row(130, 16, 40), 16, 2, 1, {"window": jnp.int32(9)}),
    "packed": (packed_row(96, 30, 1, 40), 64, 1, 2, {"window": jnp.int32(7), "cap": 5.0}),
    "packed, many blocks": (packed_row(256, 70, 140, 40), 8, 1, 1, {}),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_kernel_matches_blockwise_attention(name, dtype):
    sight, head_dim, key_heads, group, options = CASES[name]
    length = sight.positions.shape[1]
    rng = np.random.default_rng(0)

    def random(heads):
        return jnp.asarray(rng.standard_normal((1, heads, length, head_dim)), dtype)

    queries, keys, values = random(key_heads * group), random(key_heads), random(key_heads)
    expected = attend(queries, keys, values, sight, **KERNEL, **options)
    grouped = queries.reshape(1, key_heads, group, length, head_dim)
    mix = _fused(grouped, keys, values, sight, **KERNEL, **options, interpret=True)
    made = mix.whole().reshape(expected.shape).astype(dtype)
    real = np.asarray(sight.segment_ids) > 0
    made, expected = (np.asarray(part, np.float32).swapaxes(1, 2)[real] for part in (made, expected))
    np.testing.assert_allclose(made, expected, atol=1e-6 if dtype == jnp.float32 else 1e-2)


def structs(dtype, heads, key_heads, length, head_dim):
    struct = partial(jax.ShapeDtypeStruct, dtype=dtype)
    rows = jax.ShapeDtypeStruct((2, length), jnp.int32)
    keys = struct((2, key_heads, length, head_dim))
    return struct((2, heads, length, head_dim)), keys, keys, rows, rows


@pytest.mark.parametrize("cap", [None, 50.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("head_dim", [24, 64, 256])
def test_kernel_lowers_for_cuda(head_dim, dtype, cap):
    window = None if cap is None else jnp.int32(100)
    kernel = jax.jit(partial(fused_attention, scale=0.1, cap=cap, window=window))
    traced = kernel.trace(*structs(dtype, 4, 2, 300, head_dim))
    assert "xla.gpu.triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_kernel_reports_its_cost():
    kernel = partial(fused_attention, **KERNEL)
    counts = [operations(kernel, *structs(jnp.float32, 4, 2, length, 64)) for length in (1024, 2048)]
    pairs = 2 * 4 * 2048 * (2048 + 32) // 2
    assert counts[1] == pytest.approx((4 * 64 + EXPONENTIAL) * pairs, rel=0.01)
    assert 3.8 < counts[1] / counts[0] < 4
