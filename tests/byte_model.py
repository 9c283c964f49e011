"""Byte-level models for command lines, such as ``factory=byte_model:make``."""

import os

import jax
import jax.numpy as jnp

from byte_tokenizer import ByteTokenizer
from small_model import prefix_model
from windrow import LanguageModel

ENDLESS = 10_000_000


class RecordingTokenizer(ByteTokenizer):
    """Writes the value of TOKENIZERS_PARALLELISM to the file ``RECORD`` when it encodes a text."""

    def encode(self, text):
        if path := os.environ.get("RECORD"):
            with open(path, "w") as file:
                file.write(str(os.environ.get("TOKENIZERS_PARALLELISM")))
        return super().encode(text)


def make():
    return prefix_model(256), ByteTokenizer()


def make_recording():
    return prefix_model(256), RecordingTokenizer()


def make_broken():
    def apply(params, tokens, positions, segment_ids):
        return params["no such parameter"][tokens]

    return LanguageModel({"table": jnp.zeros((256, 256))}, apply), ByteTokenizer()


def make_slow(rounds=300):
    """A model whose batches take a few tenths of a second each."""

    def apply(params, tokens, positions, segment_ids):
        wide = jax.lax.fori_loop(0, rounds, lambda _, wide: jnp.tanh(wide @ params), jnp.ones((256, 256)))
        return jax.nn.one_hot(tokens, 256) + wide.sum() * 1e-9

    return LanguageModel(jnp.eye(256), apply), ByteTokenizer()


def make_endless():
    """A model whose first batch takes hours."""
    return make_slow(ENDLESS)
