"""Models over bytes that a command line can name as ``factory=byte_model:make``."""

import os

import jax
import jax.numpy as jnp

from small_model import prefix_model
from windrow import LanguageModel

ENDLESS = 10_000_000


class Bytes:
    """Bytes as tokens."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(tokens).decode(errors="replace")


class Telling(Bytes):
    """Says what the variable is when texts are encoded."""

    def encode(self, text):
        if path := os.environ.get("TELL"):
            with open(path, "w") as file:
                file.write(str(os.environ.get("TOKENIZERS_PARALLELISM")))
        return super().encode(text)


def make():
    return prefix_model(256), Bytes()


def make_telling():
    return prefix_model(256), Telling()


def make_broken():
    def apply(params, tokens, positions, segment_ids):
        return params["no such parameter"][tokens]

    return LanguageModel({"table": jnp.zeros((256, 256))}, apply), Bytes()


def make_slow(rounds=300):
    """Each batch takes some tenths of a second."""

    def apply(params, tokens, positions, segment_ids):
        wide = jax.lax.fori_loop(0, rounds, lambda _, wide: jnp.tanh(wide @ params), jnp.ones((256, 256)))
        return jax.nn.one_hot(tokens, 256) + wide.sum() * 1e-9

    return LanguageModel(jnp.eye(256), apply), Bytes()


def make_endless():
    """The first batch takes hours."""
    return make_slow(ENDLESS)
