"""Maxima and sums over the last axis, in the form that each platform computes and compiles best.

XLA's compiler for CPUs splits a reduction of more than :data:`SHORT` numbers into windows, and unrolls and
vectorizes each window, which takes a large part of a model's compile time. Here, the halves of the axis are
first combined with each other until it is short:

    1 2 3 4 5 6 7 8    halves 1 2 3 4 and 5 6 7 8
    6 8 10 12          halves 6 8 and 10 12
    16 20              short: sum 36

Other platforms reduce the axis as it is. Programs of a small Llama compile in three quarters of the time, and
are as fast. A sum of halves rounds no more often than a sum in order.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from windrow.sharding.platform import by_platform

SHORT = 32
"""The number of elements that are reduced directly. XLA splits longer axes."""


def highest(x: jax.Array) -> jax.Array:
    """The maximum of the last axis, which remains with size 1.

    >>> highest(jnp.arange(12.0).reshape(2, 6)).tolist()
    [[5.0], [11.0]]
    """
    return _reduced(jnp.maximum, jnp.max, x)


def total(x: jax.Array) -> jax.Array:
    """The sum of the last axis, which remains with size 1.

    >>> total(jnp.ones((2, 96))).tolist()
    [[96.0], [96.0]]
    """
    return _reduced(jnp.add, jnp.sum, x)


def mean(x: jax.Array) -> jax.Array:
    """The mean of the last axis, which remains with size 1.

    >>> mean(jnp.arange(64.0)[None]).tolist()
    [[31.5]]
    """
    return total(x) / x.shape[-1]


def _reduced(combine: Callable[..., jax.Array], reduce: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
    whole = partial(reduce, axis=-1, keepdims=True)
    if x.shape[-1] <= SHORT:
        return whole(x)

    def in_halves(x: jax.Array) -> jax.Array:
        while x.shape[-1] > SHORT and x.shape[-1] % 2 == 0:
            x = combine(*jnp.split(x, 2, axis=-1))
        return whole(x)

    reduced: jax.Array = by_platform(x, cpu=in_halves, default=whole)
    return reduced
