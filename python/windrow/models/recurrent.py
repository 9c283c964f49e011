"""The common part of recurrent models: a state carried from chunk to chunk, and one scan over the layers.

    x = embed(tokens)
    each layer:  state, x = block(state, x)
    logits = head(norm(x))

Results do not depend on how a row is split into chunks. The state is reset at position 0, so rows may be
packed; padding (segment id 0) leaves it unchanged. ``apply`` is ``step`` from the empty state.

Parameters: ``embedding [vocab, width]``, ``layers`` (every leaf with a leading layer
axis), ``norm [width]`` and, unless tied to the embedding, ``head [vocab, width]``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.models.layers import by_weight, rms_norm

Weights = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recurrent(ABC):
    """The configuration; sizes are counts."""

    vocab: int
    width: int
    layers: int
    eps: float
    tied: bool

    @abstractmethod
    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""

    @abstractmethod
    def init_state(self, params: Weights, rows: int) -> Any:
        """The state before the first token; leaves are ``[rows, layers, ...]``."""

    @abstractmethod
    def block(
        self, weights: Weights, before: Any, x: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, Any]:
        """One layer over ``x``, ``[rows, length, width]``: its output, and its state after the last token."""

    def embed(self, params: Weights, tokens: jax.Array) -> jax.Array:
        """The first layer's input."""
        embedded: jax.Array = params["embedding"][tokens]
        return embedded

    def finish(self, params: Weights, x: jax.Array) -> jax.Array:
        """The head's input."""
        return rms_norm(x, params["norm"], self.eps)

    def logits(self, params: Weights, picked: jax.Array) -> jax.Array:
        """Logits, ``float32[..., vocab]``, for ``[..., width]``."""
        return by_weight("...w,vw->...v", picked, params.get("head", params["embedding"]))

    def language_model(self, params: Weights, max_length: int | None) -> LanguageModel:
        """The functions; ``max_length`` is optional."""
        return LanguageModel(
            params,
            apply=partial(apply, self),
            max_length=max_length,
            hidden=partial(hidden, self),
            head=self.logits,
            init_state=self.init_state,
            step=partial(step, self),
        )


def apply(
    config: Recurrent, params: Weights, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> jax.Array:
    """Logits, ``float32[rows, length, vocab]``."""
    return config.logits(params, hidden(config, params, tokens, positions, segment_ids))


def hidden(
    config: Recurrent, params: Weights, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> jax.Array:
    """The head's input, ``[rows, length, width]``."""
    state = config.init_state(params, tokens.shape[0])
    return step(config, params, state, tokens, positions, segment_ids)[1]


def step(
    config: Recurrent,
    params: Weights,
    state: Any,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
) -> tuple[Any, jax.Array]:
    """The state after these tokens, and the head's input for them."""
    real = segment_ids > 0

    def layer(x: jax.Array, scanned: tuple[Weights, Any]) -> tuple[jax.Array, Any]:
        weights, before = scanned
        return config.block(weights, before, x, positions, real)

    by_layer = jax.tree.map(lambda part: jnp.moveaxis(part, 1, 0), state)
    x, after = jax.lax.scan(layer, config.embed(params, tokens), (params["layers"], by_layer))
    return jax.tree.map(lambda part: jnp.moveaxis(part, 0, 1), after), config.finish(params, x)


def by_chunks(
    function: Callable[..., tuple[Any, jax.Array]], size: int, state: Any, *inputs: jax.Array
) -> tuple[Any, jax.Array]:
    """Runs ``function(state, *chunks)`` over chunks of at most ``size`` tokens.

    Inputs and outputs are ``[rows, length, ...]``; the last chunk is padded with zeros.
    """
    length = inputs[0].shape[1]
    size = min(size, length)

    def split(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, -length % size), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    state, made = jax.lax.scan(lambda state, chunk: function(state, *chunk), state, tuple(map(split, inputs)))
    made = jnp.moveaxis(made, 0, 1)
    return state, made.reshape(made.shape[0], -1, *made.shape[3:])[:, :length]


class Paths(NamedTuple):
    """How each token's contribution decays on its way to later tokens of a chunk.

    Attributes:
        since: The log of the state's decay from the chunk's start to each token:
            ``float32[rows, heads, size]``.
        between: The log of the decay from the token of the last axis, ``float32[rows, heads, size, size]``.
        carried: Which tokens' segments began before the chunk, ``bool[rows, 1, size]``.
        reached: Which tokens of the last axis reach each token, ``bool[rows, 1, size, size]``.
    """

    since: jax.Array
    between: jax.Array
    carried: jax.Array
    reached: jax.Array


def paths(fading: jax.Array, first: jax.Array) -> Paths:
    """The paths within a chunk.

    Sums are taken along each path and never subtracted, so slow fading after fast fading stays exact.

    Args:
        fading: The log of each token's decay of the state before it, ``float32[rows, size, heads]``;
            0 for padding.
        first: Which tokens begin a segment, ``bool[rows, size]``.
    """
    fading = jnp.moveaxis(fading, 1, 2)
    size = fading.shape[-1]
    later = jnp.tril(jnp.ones((size, size), bool), -1)[None, None]
    runs = jnp.cumsum(first, axis=1, dtype=jnp.int32)
    between = jnp.cumsum(jnp.where(later, fading[:, :, :, None], 0), axis=2)
    reached = (runs[:, :, None] == runs[:, None, :]) & jnp.tril(jnp.ones((size, size), bool))[None]
    return Paths(jnp.cumsum(fading, axis=2), between, (runs == 0)[:, None], reached[:, None])
