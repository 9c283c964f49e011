"""A one-layer transformer with a cache in plain JAX, as a reader of the guide would write it."""

import jax
import jax.numpy as jnp

import windrow
from windrow import LanguageModel

WIDTH = 16


def cached_model(vocab: int, max_length: int, asks_length: bool = True, **parts) -> LanguageModel:
    """Its cache has ``length`` slots if ``init_state`` takes the length, else ``max_length``."""
    keys = jax.random.split(jax.random.key(4), 6)
    params = {
        name: jax.random.normal(key, shape) * shape[0] ** -0.5
        for name, key, shape in zip(
            ("embedding", "query", "key", "value", "head"),
            keys,
            [(vocab, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, vocab)],
            strict=False,
        )
    }
    params["embedding"] *= vocab**0.5

    def init_state(params, rows, length=max_length):
        nothing = jnp.zeros((rows, length, WIDTH))
        return {"keys": nothing, "values": nothing}

    functions = {
        "apply": apply,
        "init_state": init_state if asks_length else lambda params, rows: init_state(params, rows),
        "step": step,
    }
    return LanguageModel(params, max_length=max_length, **(functions | parts))


def embed(params, tokens, positions):
    waves = jnp.arange(WIDTH, dtype=jnp.float32) * 0.7 + 0.05
    return params["embedding"][tokens] + jnp.sin(
        positions.astype(jnp.float32)[:, :, None] * waves[None, None]
    )


def attend(params, x, keys, values, mask):
    scores = jnp.einsum("rqw,rkw->rqk", x @ params["query"], keys) * WIDTH**-0.5
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
    return (x + jnp.einsum("rqk,rkw->rqw", weights, values)) @ params["head"]


def apply(params, tokens, positions, segment_ids, reach=None):
    x = embed(params, tokens, positions)
    mask = windrow.visible(segment_ids, reach)
    return attend(params, x, x @ params["key"], x @ params["value"], mask)


def step(params, state, tokens, positions, segment_ids):
    """Writes the whole chunk at the row's first position."""
    x, columns = embed(params, tokens, positions), tokens.shape[1]

    def write(cache, chunk, position, real):
        old = jax.lax.dynamic_slice_in_dim(cache, position, columns)
        chunk = jnp.where(real[:, None], chunk, old)
        return jax.lax.dynamic_update_slice_in_dim(cache, chunk, position, 0)

    new = {"keys": x @ params["key"], "values": x @ params["value"]}
    real, first = segment_ids > 0, positions[:, 0]
    state = {name: jax.vmap(write)(state[name], new[name], first, real) for name in state}
    slots = jnp.arange(state["keys"].shape[1])
    mask = slots[None, None] <= positions[:, :, None]
    return state, attend(params, x, state["keys"], state["values"], mask)
