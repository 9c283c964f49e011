"""A recurrent model: scores texts of any length in chunks, and generates without recomputation.

This only needs ``init_state`` and ``step``. A step takes several tokens, and must not change the state where
the segment id is 0, which marks padding.
"""

import jax
import jax.numpy as jnp
import numpy as np

import windrow
from sayings import END, TEXTS, VOCABULARY, byte_tokenizer

WIDTH = 64


def init(key):
    keys = jax.random.split(key, 4)
    return {
        "embedding": jax.random.normal(keys[0], (VOCABULARY, WIDTH)),
        "gate": jax.random.normal(keys[1], (WIDTH, WIDTH)) * WIDTH**-0.5,
        "input": jax.random.normal(keys[2], (WIDTH, WIDTH)) * WIDTH**-0.5,
        "head": jax.random.normal(keys[3], (WIDTH, VOCABULARY)) * WIDTH**-0.5,
    }


def init_state(params, rows):
    return jnp.zeros((rows, WIDTH))


def step(params, state, tokens, positions, segment_ids):
    """The state after these tokens, and the logits at each of them."""

    def advance(state, column):
        token, real = column
        seen = params["embedding"][token]
        gate = jax.nn.sigmoid(seen @ params["gate"])
        after = gate * state + (1 - gate) * jnp.tanh(seen @ params["input"] + state)
        state = jnp.where(real[:, None], after, state)
        return state, state @ params["head"]

    state, logits = jax.lax.scan(advance, state, (tokens.T, segment_ids.T > 0))
    return state, logits.swapaxes(0, 1)


def apply(params, tokens, positions, segment_ids):
    return step(params, init_state(params, len(tokens)), tokens, positions, segment_ids)[1]


def main() -> None:
    params, tokenizer = init(jax.random.key(0)), byte_tokenizer()
    model = windrow.LanguageModel(params, apply, init_state=init_state, step=step)

    long = " ".join(TEXTS)
    pairs = [(long[:500], long[500:]), (TEXTS[0][:8], TEXTS[0][8:])]
    whole = windrow.score(model, tokenizer, pairs)
    chunks = windrow.score(model, tokenizer, pairs, chunk_length=64)
    np.testing.assert_allclose(whole.log_likelihoods, chunks.log_likelihoods, rtol=1e-5)
    print(f"{chunks.token_counts.sum()} tokens scored in chunks of 64, with the same result as at once")

    texts = windrow.generate(model, tokenizer, ["Make hay", "Still"], max_new_tokens=8, end_tokens=[END])
    print(f"generated: {list(texts)}")
    print(texts.report)


if __name__ == "__main__":
    main()
