"""Trains a model on texts: a tokenizer, a stream of tokens, and AdamW in plain JAX.

Each text is one segment and begins with a marker. The segments are concatenated into a
stream, and a training row is a random window of it, so training needs no padding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from windrow.demo.model import Params, apply, init

BEGIN = 0
"""The token that begins every text."""

Moments = tuple[Params, Params]
"""AdamW's running means of gradients and of their squares."""

Stream = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Tokens, positions and segment ids, ``int32[n]`` each."""


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Learns a byte-level BPE vocabulary in which every common word is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<begin>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_stream(tokenizer: Tokenizer, texts: list[str]) -> Stream:
    """Concatenates the texts.

    Two texts with the ids ``5`` and ``6 7`` become::

        tokens       0  5  0  6  7
        positions    0  1  0  1  2
        segment_ids  1  1  2  2  2
    """
    segments = [[BEGIN, *encoding.ids] for encoding in tokenizer.encode_batch(texts)]
    lengths = [len(segment) for segment in segments]
    return (
        np.concatenate(segments, dtype=np.int32),
        np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        np.repeat(np.arange(1, len(segments) + 1, dtype=np.int32), lengths),
    )


def train(
    stream: Stream,
    vocab: int,
    *,
    steps: int = 400,
    steps_per_call: int = 20,
    rows: int = 16,
    length: int = 128,
    peak_rate: float = 5e-3,
    seed: int = 0,
    on_progress: Callable[[int, float], None],
) -> Params:
    """Trains a model on random windows of the stream.

    Args:
        stream: The result of :func:`token_stream`.
        vocab: The size of the vocabulary.
        steps: The number of AdamW steps, a multiple of ``steps_per_call``.
        steps_per_call: The number of steps to run on the device per call.
        rows: Windows per step.
        length: Tokens per window.
        peak_rate: The peak learning rate. The rate rises linearly over the first tenth of the steps, and then
            falls linearly to zero.
        seed: Determines the initial parameters and the windows.
        on_progress: Called with the number of steps so far and the mean loss of the last call,
            in nats per token.
    """
    rng = np.random.default_rng(seed)
    params = init(jax.random.key(seed), vocab)
    moments = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
    for done in range(0, steps, steps_per_call):
        numbers = np.arange(done + 1, done + steps_per_call + 1, dtype=np.float32)
        rates = peak_rate * np.minimum(10 * numbers, (steps - numbers) / np.float32(0.9)) / steps
        starts = rng.integers(len(stream[0]) - length, size=(steps_per_call, rows, 1))
        windows = tuple(jnp.asarray(part[starts + np.arange(length + 1)]) for part in stream)
        params, moments, losses = train_steps(params, moments, windows, numbers, rates.astype(np.float32))
        on_progress(done + steps_per_call, float(losses.mean()))
    return params


def loss(params: Params, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """The mean of -log p, in nats, over all tokens that follow a token of the same segment."""
    logits = apply(params, tokens[:, :-1], positions[:, :-1], segment_ids[:, :-1])
    follows = segment_ids[:, 1:] == segment_ids[:, :-1]
    scores = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)[..., 0]
    return -jnp.mean(scores, where=follows)


@partial(jax.jit, donate_argnums=(0, 1))
def train_steps(
    params: Params, moments: Moments, windows: tuple[jax.Array, ...], numbers: jax.Array, rates: jax.Array
) -> tuple[Params, Moments, jax.Array]:
    """Takes one step for each leading entry of the last three arguments, in a single ``scan``.

    Returns:
        The new parameters and moments, and each step's loss.
    """

    def step(carry: tuple[Params, Moments], given: Any) -> tuple[tuple[Params, Moments], jax.Array]:
        params, moments = carry
        window, number, rate = given
        value, gradient = jax.value_and_grad(loss)(params, *window)
        return adamw(params, moments, gradient, number, rate), value

    (params, moments), losses = jax.lax.scan(step, (params, moments), (windows, numbers, rates))
    return params, moments, losses


def adamw(
    params: Params, moments: Moments, gradient: Params, number: jax.Array, rate: jax.Array
) -> tuple[Params, Moments]:
    """One step of AdamW ("Decoupled Weight Decay Regularization", Loshchilov and Hutter, 2019).

    ``number`` counts steps from 1.
    """
    means = jax.tree.map(lambda mean, g: 0.9 * mean + 0.1 * g, moments[0], gradient)
    squares = jax.tree.map(lambda square, g: 0.98 * square + 0.02 * g * g, moments[1], gradient)

    def moved(parameter: jax.Array, mean: jax.Array, square: jax.Array) -> jax.Array:
        scale = jnp.sqrt(square / (1 - 0.98**number)) + 1e-8
        return parameter - rate * (mean / (1 - 0.9**number) / scale + 0.1 * parameter)

    return jax.tree.map(moved, params, means, squares), (means, squares)
