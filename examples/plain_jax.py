"""A plain JAX function as a model: it counts which byte followed the last four.

This function is all that windrow needs. The script prints lm_eval's table and windrow's report.
"""

import jax.numpy as jnp
import numpy as np

import windrow
from sayings import END, TEXTS, VOCABULARY, byte_tokenizer, evaluate

SLOTS = 4093


def slots(tokens, positions):
    """The table slot for each token and the three before it, ``int32[rows, length]``."""
    length, code = tokens.shape[1], tokens
    for back in (1, 2, 3):
        earlier = jnp.pad(tokens, ((0, 0), (back, 0)))[:, :length]
        code = code * 31 + jnp.where(positions >= back, earlier, END)
    return code % SLOTS


def apply(params, tokens, positions, segment_ids):
    """The whole model: maps ``int32[rows, length]`` each to logits, ``[rows, length, vocabulary]``."""
    return params[slots(tokens, positions)]


def count(tokenizer):
    """The model's parameters, logits by slot: ``float32[SLOTS, VOCABULARY]``."""
    tokens = np.full((len(TEXTS), 64), END, np.int32)
    for row, text in zip(tokens, TEXTS, strict=True):
        seen = tokenizer.encode(text).ids
        row[: len(seen)] = seen
    positions = np.broadcast_to(np.arange(64), tokens.shape)
    counts = np.full((SLOTS, VOCABULARY), 0.01, np.float32)
    np.add.at(counts, (np.asarray(slots(tokens, positions))[:, :-1], tokens[:, 1:]), 1)
    return jnp.log(counts)


def main() -> None:
    tokenizer = byte_tokenizer()
    model = windrow.LanguageModel(count(tokenizer), apply)
    lm = windrow.JaxLM(model, tokenizer, prefix_token_id=END)
    print(f"right: {evaluate(lm):.2f}")
    print(lm.report())


if __name__ == "__main__":
    main()
