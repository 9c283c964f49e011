"""A small transformer in plain JAX, as an example to copy.

windrow needs pure functions of the parameters: ``apply``, which maps tokens to logits, and preferably its two
halves, ``hidden`` and ``head``, so that logits are only computed where they are needed. Only
``language_model``, which bundles the three, depends on windrow.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel

Params = Any


@partial(jax.jit, static_argnames=("vocab", "width", "layers", "heads"))
def init(key: jax.Array, vocab: int, *, width: int = 64, layers: int = 2, heads: int = 4) -> Params:
    """Initializes float32 parameters; their shapes determine all sizes later."""

    def matrix(key: jax.Array, *shape: int, inputs: int) -> jax.Array:
        drawn: jax.Array = jax.random.normal(key, shape, jnp.float32) * inputs**-0.5
        return drawn

    def layer(key: jax.Array) -> Params:
        qkv, out, up, down = jax.random.split(key, 4)
        return {
            "qkv": matrix(qkv, 3, width, heads, width // heads, inputs=width),
            "out": matrix(out, heads, width // heads, width, inputs=width * layers),
            "up": matrix(up, width, 4 * width, inputs=width),
            "down": matrix(down, 4 * width, width, inputs=4 * width * layers),
        }

    embedding, *keys = jax.random.split(key, layers + 1)
    return {
        "embedding": matrix(embedding, vocab, width, inputs=width),
        "layers": [layer(key) for key in keys],
    }


def hidden(params: Params, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Returns the input of the head, ``float32[rows, length, width]``, from ``int32[rows, length]`` each.

    Positions are encoded as a penalty on distance, with a separate slope for each head ("Train Short, Test
    Long", Press et al., 2022), so there is no position table that limits the length.
    """
    heads = params["layers"][0]["out"].shape[0]
    slopes = jnp.float32(2.0) ** -(8 * jnp.arange(1, heads + 1, dtype=jnp.float32) / heads)
    distance = positions[:, :, None] - positions[:, None, :]
    visible = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (distance >= 0)
    penalty = slopes[None, :, None, None] * distance[:, None].astype(jnp.float32)
    bias = jnp.where(visible[:, None], -penalty, jnp.float32(-1e9))

    flow = params["embedding"][tokens]
    for layer in params["layers"]:
        flow = flow + _attention(layer, _normalize(flow), bias)
        flow = flow + jax.nn.gelu(_normalize(flow) @ layer["up"]) @ layer["down"]
    return _normalize(flow)


def head(params: Params, picked: jax.Array) -> jax.Array:
    """Returns logits, ``float32[..., vocab]``, from the output of ``hidden``."""
    embedding: jax.Array = params["embedding"]
    return picked @ embedding.T


def apply(params: Params, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Returns the logits of the next token at every position, ``float32[rows, length, vocab]``."""
    return head(params, hidden(params, tokens, positions, segment_ids))


def language_model(params: Params, max_length: int) -> LanguageModel:
    """Bundles the functions above for windrow."""
    return LanguageModel(params, apply, max_length=max_length, hidden=hidden, head=head)


def _normalize(flow: jax.Array) -> jax.Array:
    return flow * jax.lax.rsqrt(jnp.mean(flow * flow, axis=-1, keepdims=True) + jnp.float32(1e-6))


def _attention(layer: Params, flow: jax.Array, bias: jax.Array) -> jax.Array:
    query, key, value = jnp.einsum("rld,xdhk->xrhlk", flow, layer["qkv"])
    scores = jnp.einsum("rhqk,rhsk->rhqs", query, key) * query.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores + bias)
    return jnp.einsum("rhqs,rhsk,hkd->rqd", weights, value, layer["out"])
