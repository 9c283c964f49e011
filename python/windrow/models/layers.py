"""Building blocks shared by several models."""

import re
from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from windrow.models.reductions import mean
from windrow.sharding.platform import by_platform

_EXACT, _BY_TANH = (partial(jax.nn.gelu, approximate=each) for each in (False, True))
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": _EXACT,
    "gelu_10": lambda x: jnp.clip(_EXACT(x), -10, 10),
    "gelu_accurate": _BY_TANH,
    "gelu_fast": _BY_TANH,
    "gelu_new": _BY_TANH,
    "gelu_python": _EXACT,
    "gelu_python_tanh": _BY_TANH,
    "gelu_pytorch_tanh": _BY_TANH,
    "hardswish": jax.nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "mish": jax.nn.mish,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
"""Activation functions, by their names in configurations."""


def along(weight: jax.Array, x: jax.Array) -> jax.Array:
    """A weight for the last axes of ``x``, with leading axes of size 1, so no rank is promoted.

    >>> along(jnp.ones(4), jnp.ones((2, 3, 4))).shape
    (1, 1, 4)
    """
    return jax.lax.expand_dims(weight, range(x.ndim - weight.ndim))


def contract(formula: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    """``einsum`` with float32 accumulation and result.

    Float32 operands are multiplied at full precision; by default, accelerators round them to fewer bits
    first.

    >>> contract("ij,kj->ik", jnp.ones((2, 3)), jnp.ones((4, 3))).shape
    (2, 4)
    """
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    return jnp.einsum(formula, x, weight, precision=precision, preferred_element_type=jnp.float32)


FEW_ROWS = 96
"""With fewer rows than this, CPUs compute ``weight @ x.T``; see :func:`by_weight`."""


def by_weight(formula: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    """``contract`` for inputs and a weight, with the operands in the faster order.

    Checkpoints store weights as ``[outputs, inputs]``. On CPUs, XLA computes ``x @ weight.T`` for a few rows
    slower than ``weight @ x.T`` (16 rows by 3,072 × 768: 31 and 78 GFLOP/s). With more rows, it gains less
    than it loses by transposing whatever is computed from the product.

    >>> by_weight("ij,kj->ik", jnp.ones((2, 3)), jnp.ones((4, 3))).shape
    (2, 4)
    """
    first, second, result = re.split(",|->", formula)
    shared = set(first) & set(second)
    rows = x.size // prod(size for name, size in zip(second, weight.shape, strict=True) if name in shared)
    if second[-1] not in shared or rows >= FEW_ROWS:
        return contract(formula, x, weight)
    outputs, inputs = (re.sub(f"[{''.join(shared)}]", "", part) for part in (second, first))

    def swapped(x: jax.Array, weight: jax.Array) -> jax.Array:
        product = contract(f"{second},{first}->{outputs}{inputs}", weight, x)
        # Without the barrier, XLA swaps the operands back.
        return jnp.einsum(f"{outputs}{inputs}->{result}", jax.lax.optimization_barrier(product))

    product: jax.Array = by_platform(x, weight, cpu=swapped, default=partial(contract, formula))
    return product


def linear(formula: str, x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """A linear map with an optional bias, in the dtype of ``x``."""
    y = by_weight(formula, x, weight)
    return (y if bias is None else y + along(bias, y).astype(y.dtype)).astype(x.dtype)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """Keeps ``x`` between ``-cap`` and ``cap``, smoothly.

    >>> float(soft_cap(jnp.float32(1000.0), 30.0))
    30.0
    """
    return cap * jnp.tanh(x / cap)


def rms_norm(x: jax.Array, weight: jax.Array, eps: float, together: tuple[int, ...] = ()) -> jax.Array:
    """Scales the last axis to a root mean square of 1, in float32, and multiplies by ``weight``.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.

    Args:
        x: Any shape.
        weight: Covers the last axes of ``x``.
        eps: Added to the mean square.
        together: Further axes that are normalized together with the last one.
    """
    wide = x.astype(jnp.float32)
    squares = mean(wide * wide)
    squares = jnp.mean(squares, axis=together, keepdims=True) if together else squares
    return (wide * jax.lax.rsqrt(squares + eps)).astype(weight.dtype) * along(weight, wide)


def layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """Normalizes the last axis to mean 0 and variance 1, in float32, then scales and shifts it.

    Source: Ba, Kiros and Hinton, Layer Normalization, 2016.
    """
    wide = x.astype(jnp.float32)
    wide = wide - mean(wide)
    wide = wide * jax.lax.rsqrt(mean(wide * wide) + eps)
    weight, bias = (along(part, wide).astype(jnp.float32) for part in (weight, bias))
    return (wide * weight + bias).astype(x.dtype)
