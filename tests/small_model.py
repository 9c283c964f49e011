"""A model that depends on the whole prefix, small enough to recompute in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from windrow import LanguageModel


def prefix_model(
    vocab: int, width: int = 8, seed: int = 0, max_length: int | None = None, **parts
) -> LanguageModel:
    """Sums a segment's embeddings up to each position; the head is a matrix. Supports packed rows."""
    keys = jax.random.split(jax.random.key(seed))
    params = {
        "embedding": jax.random.normal(keys[0], (vocab, width)),
        "head": jax.random.normal(keys[1], (width, vocab)) * 3,
    }
    return LanguageModel(params, apply, max_length, **parts)


def hidden(params, tokens, positions, segment_ids):
    sums = jnp.cumsum(params["embedding"][tokens], axis=1)
    before = jnp.where((positions == 0)[:, :, None], sums - params["embedding"][tokens], -jnp.inf)
    index = jax.lax.cummax(jnp.where(positions == 0, jnp.arange(tokens.shape[1]), 0), axis=1)
    start = jnp.take_along_axis(before, index[:, :, None], axis=1)
    return jnp.tanh((sums - start) / (1 + positions[:, :, None].astype(jnp.float32)))


def head(params, picked):
    return picked @ params["head"]


def apply(params, tokens, positions, segment_ids):
    return head(params, hidden(params, tokens, positions, segment_ids))


def init_state(params, rows):
    return jnp.zeros((rows, params["embedding"].shape[1]))


def step(params, state, tokens, positions, segment_ids):
    real = (segment_ids > 0)[:, :, None]
    sums = state[:, None] + jnp.cumsum(jnp.where(real, params["embedding"][tokens], 0), axis=1)
    return sums[:, -1], jnp.tanh(sums / (1 + positions[:, :, None].astype(jnp.float32)))


def naive_logprobs(params, sequence):
    """Log-probability and greedy flag of each token of a sequence except the first, in float64 NumPy."""
    embedding, matrix = (np.asarray(params[name], np.float64) for name in ("embedding", "head"))
    results = []
    for end in range(1, len(sequence)):
        logits = np.tanh(embedding[list(sequence[:end])].sum(0) / end) @ matrix
        shifted = logits - logits.max()
        logprobs = shifted - np.log(np.exp(shifted).sum())
        results.append((logprobs[sequence[end]], bool(logits.argmax() == sequence[end])))
    return results
