"""The common part of both kinds of Mamba: a convolution before the recurrence, and the residual stream.

    each layer:  x = x + mix(norm(x))

Each family has its own ``mix``.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windrow.models.config import Fields
from windrow.models.layers import ACTIVATIONS, along, rms_norm
from windrow.models.recurrent import Recurrent, Weights

PREFIX = "backbone."
IGNORED: tuple[str, ...] = ()
RENAMED = {"backbone.embedding.": "backbone.embeddings."}  # in checkpoints of the model's authors


class State(NamedTuple):
    """A row's state: the last inputs of the convolution, and the recurrent state.

    ``recent``: ``[rows, layers, taps - 1, features]``; ``memory``: ``float32[rows, layers, ...]``.
    """

    recent: jax.Array
    memory: jax.Array


@dataclass(frozen=True, kw_only=True)
class StateSpace(Recurrent):
    """Fields beyond those of every recurrent model; sizes are counts.

    Attributes:
        taps: The number of inputs that the convolution sees.
        activation: Applied after the convolution.
        bias: Whether projections have a bias.
        bias_conv: Whether the convolution has a bias.
        wide_residual: Whether layers add up in float32.
    """

    taps: int
    activation: Callable[[jax.Array], jax.Array]
    bias: bool
    bias_conv: bool
    wide_residual: bool

    @abstractmethod
    def mix(
        self, weights: Weights, before: State, y: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, State]:
        """One layer's mixer over ``y``, ``[rows, length, width]``."""

    def embed(self, params: Weights, tokens: jax.Array) -> jax.Array:
        """The first layer's input."""
        x = super().embed(params, tokens)
        return x.astype(jnp.float32) if self.wide_residual else x

    def block(
        self, weights: Weights, before: State, x: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, State]:
        """One layer."""
        y = rms_norm(x.astype(weights["norm"].dtype), weights["norm"], self.eps)
        y, after = self.mix(weights, before, y, positions, real)
        return x + y.astype(x.dtype), after


def read_shared(fields: Fields, *, tied: bool) -> dict[str, Any]:
    """The fields with the same name in both kinds; ``tied`` is the default for the head."""
    return {
        "vocab": fields.size("vocab_size"),
        "width": fields.size("hidden_size"),
        "layers": fields.size("num_hidden_layers"),
        "taps": fields.size("conv_kernel", 4),
        "activation": ACTIVATIONS[fields.choice("hidden_act", ACTIVATIONS, "silu")],
        "eps": fields.number("layer_norm_epsilon", 1e-5),
        "bias": fields.flag("use_bias", False),
        "bias_conv": fields.flag("use_conv_bias", True),
        "wide_residual": fields.flag("residual_in_fp32", True),
        "tied": fields.flag("tie_word_embeddings", tied),
    }


def convolve(
    weights: Weights, recent: jax.Array, u: jax.Array, positions: jax.Array, real: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A causal depthwise convolution over the real tokens of each segment.

    Each input is read where it stands, at the index of the real one before the next: moving the real tokens
    together is a scatter, which CPUs run one token at a time.

    Args:
        weights: ``conv``, ``[features, 1, taps]``, and optionally ``conv_bias``, ``[features]``.
        recent: The last inputs before these, ``[rows, taps - 1, features]``.
        u: The inputs, ``[rows, length, features]``.
        positions: Each token's position in its segment, ``int32[rows, length]``.
        real: Which tokens are not padding, ``bool[rows, length]``.

    Returns:
        The outputs, and the new last inputs.
    """
    kept, whole = recent.shape[1], jnp.concatenate([recent, u], axis=1)
    is_input = jnp.pad(real, ((0, 0), (kept, 0)), constant_values=True)
    columns = jax.lax.broadcasted_iota(jnp.int32, is_input.shape, 1)
    last = jax.lax.cummax(jnp.where(is_input, columns, 0), axis=1)
    before = jnp.pad(last[:, :-1], ((0, 0), (1, 0)))

    def earlier(places: jax.Array) -> jax.Array:
        return jnp.take_along_axis(before, places, axis=1, mode="clip")

    def take(places: jax.Array) -> jax.Array:
        return jnp.take_along_axis(whole, places[:, :, None], axis=1, mode="clip")

    taps = jnp.moveaxis(weights["conv"], 2, 0)[:, None, None, :, 0]  # [taps, 1, 1, features]
    taps = taps.astype(jnp.float32)
    y, places = u.astype(jnp.float32) * taps[kept], columns[:, kept:]
    for back in range(1, kept + 1):
        places = earlier(places)
        inputs = jnp.where((positions >= back)[:, :, None], take(places), 0)
        y = y + inputs.astype(jnp.float32) * taps[kept - back]
    y = y + along(weights["conv_bias"].astype(jnp.float32), y) if "conv_bias" in weights else y
    ends = [last[:, -1:]]
    for _ in range(1, kept):
        ends.append(earlier(ends[-1]))
    return y.astype(u.dtype), take(jnp.concatenate(ends[::-1], axis=1)[:, len(ends) - kept :])
