"""Identifies a model: by a checksum of its parameters and by its scores on a few tokens.

The checksum covers every bit of every parameter. It is computed on the devices, in one pass over the
parameters, and does not depend on how they are sharded. Functions cannot be hashed, so the log-probabilities
of a short fixed text stand in for them. They vary slightly between kinds of device, so they are compared with
a tolerance.
"""

from hashlib import sha256
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windrow.sharding import RowSharding
from windrow.tokens import Segments

_SALTS = (0x9E3779B9, 0x85EBCA6B)
_LENGTH = 16


def params_checksum(params: Any, sharding: RowSharding) -> str:
    """A hash of all parameters: their names, shapes, dtypes and bits. Every host must call it.

    This takes one compilation and one pass over the parameters.

    Args:
        params: The parameters, on the sharding's mesh.
        sharding: Their mesh.
    """
    leaves = jax.tree.leaves_with_path(params)
    described = repr([(jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype)) for path, leaf in leaves])
    with jax.set_mesh(sharding.mesh):
        sums = jax.jit(_sums, out_shardings=sharding.replicated)([leaf for _, leaf in leaves])
    return sha256(described.encode() + jax.device_get(sums).astype("<u4").tobytes()).hexdigest()


def probe(vocabulary: int, max_length: int | None) -> Segments:
    """The fixed text: a few tokens spread over the vocabulary, as one segment.

    >>> probe(100, 4).tokens.tolist()
    [1, 54, 41, 62, 17]
    """
    length = min(_LENGTH, max_length or _LENGTH) + 1
    tokens = np.array([(place * 0x9E3779B1 + 1) % vocabulary for place in range(length)], np.int32)
    return Segments.of([tokens], [1])


def _sums(leaves: list[jax.Array]) -> jax.Array:
    """``uint32[leaves, 2]``: the sums over a leaf of each element's bits mixed with its index."""
    return jnp.stack([_sum(_words(leaf)) for leaf in leaves]) if leaves else jnp.zeros((0, 2), jnp.uint32)


def _sum(words: jax.Array) -> jax.Array:
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * jnp.uint32(size % 2**32) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    mixed = [_mix(words ^ _mix(place + jnp.uint32(salt))) for salt in _SALTS]
    return jnp.stack([jnp.sum(each, dtype=jnp.uint32) for each in mixed])


def _mix(words: jax.Array) -> jax.Array:
    """A permutation of 32-bit words that separates neighbors (the finalizer of MurmurHash3)."""
    words = (words ^ (words >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    mixed: jax.Array = words ^ (words >> jnp.uint32(16))
    return mixed


def _words(leaf: jax.Array) -> jax.Array:
    """An array's bits as 32-bit words."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag])
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf.astype(jnp.uint32)
    if leaf.dtype.itemsize == 1:
        leaf = leaf.astype(jnp.float32)  # lossless, and a size that bitcasts to an unsigned integer
    bits = min(8 * leaf.dtype.itemsize, 32)
    words: jax.Array = jax.lax.bitcast_convert_type(leaf, f"uint{bits}").astype(jnp.uint32)
    return words
