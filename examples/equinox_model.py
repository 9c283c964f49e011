"""An Equinox model that uses segment ids, so that several requests can share a row.

``eqx.partition`` separates the arrays from the rest of the model, and ``jax.vmap`` maps a model written for
one row over a batch of rows.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import windrow
from sayings import SAYINGS, VOCABULARY, byte_tokenizer

WIDTH = 32


class Transformer(eqx.Module):
    """A block with attention within segments, and a head; for one row."""

    embedding: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    perceptron: eqx.nn.MLP
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        keys = jax.random.split(key, 4)
        self.embedding = eqx.nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
        self.attention = eqx.nn.MultiheadAttention(4, WIDTH, key=keys[1])
        self.perceptron = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, 1, key=keys[2])
        self.head = eqx.nn.Linear(WIDTH, VOCABULARY, key=keys[3])

    def __call__(self, tokens, positions, segment_ids):
        same = segment_ids[:, None] == segment_ids[None, :]
        earlier = positions[:, None] >= positions[None, :]
        flow = jax.vmap(self.embedding)(tokens)
        flow = flow + self.attention(flow, flow, flow, mask=same & earlier)
        flow = flow + jax.vmap(self.perceptron)(flow)
        return jax.vmap(self.head)(flow)


def language_model(model: Transformer) -> windrow.LanguageModel:
    params, rest = eqx.partition(model, eqx.is_array)

    def apply(params, tokens, positions, segment_ids):
        return jax.vmap(eqx.combine(params, rest))(tokens, positions, segment_ids)

    return windrow.LanguageModel(params, apply, max_length=128)


def main() -> None:
    model = language_model(eqx.filter_jit(Transformer)(jax.random.key(0)))
    pairs = [(beginning, f" {end}") for beginning, end in SAYINGS]
    alone = windrow.score(model, byte_tokenizer(), pairs)
    together = windrow.score(model, byte_tokenizer(), pairs, policy=windrow.BatchPolicy(pack=True))
    np.testing.assert_allclose(alone.log_likelihoods, together.log_likelihoods, rtol=1e-5)
    nats = -together.log_likelihoods.sum() / together.token_counts.sum()
    print(f"{nats:.3f} nats per byte; uniform guessing has {jnp.log(VOCABULARY):.3f}")
    print("packed rows give the same scores")


if __name__ == "__main__":
    main()
