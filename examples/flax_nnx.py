"""A Flax NNX model, evaluated before and after training.

``nnx.split`` separates the model into its structure and its parameters; the function passed to windrow merges
them again.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import windrow
from sayings import END, TEXTS, VOCABULARY, byte_tokenizer, evaluate

WIDTH, MAX_LENGTH, STEPS = 32, 64, 150


class Transformer(nnx.Module):
    """One attention layer and one MLP."""

    def __init__(self, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.places = nnx.Embed(MAX_LENGTH, WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens, positions):
        flow = self.tokens(tokens) + self.places(positions)
        flow = flow + self.attention(flow, mask=nnx.make_causal_mask(tokens))
        flow = flow + self.down(nnx.gelu(self.up(flow)))
        return self.head(flow)


def language_model(model: Transformer) -> windrow.LanguageModel:
    """The model for windrow, with its current parameters."""
    graph, params = nnx.split(model)

    def apply(params, tokens, positions, segment_ids):
        return nnx.merge(graph, params)(tokens, positions)

    return windrow.LanguageModel(params, apply, max_length=MAX_LENGTH)


@nnx.jit
def train_step(model, optimizer, tokens):
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def loss(model):
        logits = model(inputs, jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return losses.mean(where=targets != END)

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


def training_rows(tokenizer) -> np.ndarray:
    rows = np.full((len(TEXTS), MAX_LENGTH), END, np.int32)
    for row, text in zip(rows, TEXTS, strict=True):
        tokens = tokenizer.encode(text).ids
        row[: len(tokens)] = tokens
    return rows


def train(model: Transformer, tokenizer) -> float:
    """Trains the model to memorize the sayings; returns the loss."""
    rows = jnp.array(training_rows(tokenizer))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    for _ in range(STEPS):
        loss = train_step(model, optimizer, rows)
    return float(loss)


def main() -> None:
    tokenizer, model = byte_tokenizer(), Transformer(nnx.Rngs(jax.random.key(0)))
    before = evaluate(windrow.JaxLM(language_model(model), tokenizer, prefix_token_id=END))
    loss = train(model, tokenizer)
    after = evaluate(windrow.JaxLM(language_model(model), tokenizer, prefix_token_id=END))
    print(f"right: {before:.2f} before training, {after:.2f} after, with a loss of {loss:.2f}")


if __name__ == "__main__":
    main()
