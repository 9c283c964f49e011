"""Chooses the next token on the device: the most likely one, or a sample.

As in Hugging Face's logits warpers, logits are divided by the temperature, all but the ``top_k`` highest are
dropped, and then every token is dropped if the more likely ones have a total probability of at least
``top_p``. Ties at the boundary are kept.

    probabilities     0.5  0.3  0.15  0.05
    top_k = 3         0.53 0.32 0.16  -
    then top_p = 0.6  0.62 0.38 -     -       (0.53 before the second is below 0.6)

A sample is the argmax after adding Gumbel noise. The noise depends only on the request's key and the token's
index, not on the row, the other rows or the devices. Greedy decoding takes one pass over the vocabulary,
sampling takes another one for the noise, and ``top_k`` or ``top_p`` a sort.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

Choice = Literal["greedy", "sampled", "limited"]
"""The most general kind of choice that a run needs: argmax, sampling, or sampling with ``top_k`` or
``top_p``."""


def choose_tokens(
    logits: jax.Array,
    choice: Choice,
    keys: jax.Array,
    places: jax.Array,
    temperatures: jax.Array,
    top_k: jax.Array,
    top_p: jax.Array,
) -> jax.Array:
    """The next token of each row, ``int32[rows]``.

    Args:
        logits: ``[rows, vocab]``.
        choice: The most general kind of choice that any row needs.
        keys: ``uint32[rows, 2]``, the two words of each row's random key.
        places: ``int32[rows]``, the number of tokens that each row has generated before.
        temperatures: ``float32[rows]``; 0 means greedy decoding.
        top_k: ``int32[rows]``; 0 means no limit.
        top_p: ``float32[rows]``; 1 means no limit.

    >>> likely = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    >>> row = jnp.zeros(1, jnp.int32)
    >>> choose_tokens(likely, "greedy", jnp.zeros((1, 2), jnp.uint32), row, row, row, row).tolist()
    [0]
    """
    logits = logits.astype(jnp.float32)
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if choice == "greedy":
        return best
    warm = temperatures > 0
    scaled = logits / jnp.where(warm, temperatures, jnp.ones_like(temperatures))[:, None]
    if choice == "limited":
        scaled = jax.vmap(limit_choice)(scaled, top_k, top_p)
    noise = jax.vmap(partial(_noise, scaled.shape[1]))(keys, places)
    return jnp.where(warm, jnp.argmax(scaled + noise, axis=-1).astype(jnp.int32), best)


def limit_choice(scaled: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
    """One row's logits, with minus infinity for tokens that ``top_k`` or ``top_p`` exclude.

    Args:
        scaled: ``float32[vocab]``, the logits divided by the temperature.
        top_k: ``int32``; 0 means no limit.
        top_p: ``float32``; 1 means no limit.

    >>> likely = jnp.log(jnp.array([0.3, 0.5, 0.05, 0.15]))
    >>> jnp.isfinite(limit_choice(likely, jnp.int32(3), jnp.float32(0.6))).tolist()
    [True, True, False, False]
    """
    vocab = scaled.shape[0]
    ordered = jnp.sort(scaled, descending=True)
    kth = ordered[jnp.where(top_k > 0, jnp.minimum(top_k, vocab), vocab) - 1]
    left = jnp.where(ordered >= kth, ordered, -jnp.inf)
    probabilities = jax.nn.softmax(left)
    before = jnp.cumsum(probabilities) - probabilities
    inside = (before < top_p) | (top_p >= 1)
    least = jnp.min(jnp.where(inside & (ordered >= kth), ordered, jnp.inf))
    return jnp.where(scaled >= least, scaled, -jnp.inf)


def _noise(vocab: int, key: jax.Array, place: jax.Array) -> jax.Array:
    whole = jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.random.gumbel(jax.random.fold_in(whole, place), (vocab,), jnp.float32)
