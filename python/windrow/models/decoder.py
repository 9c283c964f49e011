"""The common part of all models with attention: one scan over the layers, with or without a cache.

    x = embed(tokens)
    each layer:  x = x + after(attention(before(x)))
                 x = x + after(mlp(before(x)))
    logits = head(norm(x))

A family is a subclass of :class:`Decoder` that reads its fields, lists its leaves and overrides whatever it
computes differently. Norms are optional: ``before`` and ``after`` are the identity in a layer without the
weight.

Parameters: ``embedding [vocab, width]``, ``layers`` (every leaf with a leading layer
axis), ``norm [width]`` and, unless tied to the embedding, ``head [vocab, width]``.
``apart``, if present, holds leaves that only some layers have.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.models.attention import Cache, CachedLayer, attend, empty_cache, remember
from windrow.models.layers import by_weight, linear, rms_norm
from windrow.models.rotary import Rope, rotate, rotation
from windrow.models.sight import Sight

Weights = Mapping[str, Any]
Attention = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Maps queries, keys and values, ``[rows, heads, length, head_dim]`` each, to mixed values."""

EVERYTHING = 2**30
"""A window so large that it hides nothing."""


@dataclass(frozen=True, kw_only=True)
class Decoder(ABC):
    """The configuration; sizes are counts.

    Attributes:
        vocab: Vocabulary size.
        width: Features per token between layers.
        layers: Number of layers.
        heads: Query heads; ``key_heads`` of keys and values.
        key_heads: A divisor of ``heads``.
        head_dim: Features per head.
        eps: Added to the variance in norms.
        tied: Whether the head shares the embedding's weights.
        scale: The factor for attention scores.
        cap: If given, attention scores are ``cap * tanh(score / cap)``.
        windows: The number of positions that each layer sees; ``None`` if all layers see everything.
        ropes: The rotary embeddings in use; none for a model with learned positions.
        rope_of_layer: Which of several ``ropes`` each layer uses.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    eps: float
    tied: bool
    scale: float
    cap: float | None = None
    windows: tuple[int, ...] | None = None
    ropes: tuple[Rope, ...] = ()
    rope_of_layer: tuple[int, ...] = ()

    @abstractmethod
    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""

    def project(self, weights: Weights, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, ``[rows, heads, length, head_dim]``, not yet rotated."""
        q, k, v = (linear("rlw,hdw->rhld", y, weights[name], weights.get(name + "_bias")) for name in "qkv")
        return q, k, v

    @abstractmethod
    def mlp(self, weights: Weights, y: jax.Array) -> jax.Array:
        """The MLP's output, ``[rows, length, width]``."""

    def attention(self, weights: Weights, y: jax.Array, mix: Attention) -> jax.Array:
        """Attention's output, ``[rows, length, width]``."""
        mixed = mix(*self.project(weights, y))
        return linear("rhld,whd->rlw", mixed, weights["out"], weights.get("out_bias"))

    def block(self, weights: Weights, x: jax.Array, mix: Attention) -> jax.Array:
        """One layer."""
        y = self.attention(weights, self.normed(weights, "attention_norm", x), mix)
        x = self.add(x, self.normed(weights, "attention_norm_after", y))
        y = self.mlp(weights, self.normed(weights, "mlp_norm", x))
        return self.add(x, self.normed(weights, "mlp_norm_after", y))

    def add(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """The residual connection."""
        return x + y

    def normed(self, weights: Weights, name: str, x: jax.Array) -> jax.Array:
        """``x`` after the norm of this name, or unchanged if there is none."""
        return self.norm(weights, name, x) if name in weights else x

    def norm(self, weights: Weights, name: str, x: jax.Array) -> jax.Array:
        """``x`` after the norm of this name."""
        return rms_norm(x, weights[name], self.eps)

    def embed(self, params: Weights, tokens: jax.Array, _: jax.Array) -> jax.Array:
        """The first layer's input, from tokens and positions, ``[rows, length, width]``."""
        embedded: jax.Array = params["embedding"][tokens]
        return embedded

    def logits(self, params: Weights, picked: jax.Array) -> jax.Array:
        """Logits, ``float32[..., vocab]``, for ``[..., width]``."""
        return by_weight("...w,vw->...v", picked, params.get("head", params["embedding"]))

    def per_layer(self) -> dict[str, jax.Array]:
        """Numbers that differ by layer, ``[layers]`` each; each layer gets its own with its weights."""
        found = {}
        if self.windows is not None:
            found["window"] = jnp.asarray(self.windows, jnp.int32)
        if len(self.ropes) > 1:
            found["rope"] = jnp.asarray(self.rope_of_layer, jnp.int32)
        return found

    def language_model(self, params: Weights, max_length: int) -> LanguageModel:
        """The functions for rows of at most ``max_length`` tokens.

        If rotary frequencies depend on a segment's full length, segments cannot share tokens, and a token
        cannot be computed before its segment is complete. There are then no trees and no ``step``.
        """
        if any(rope.grows_after < max_length for rope in self.ropes):
            whole_apply, whole_hidden = (_without_reach(partial(each, self)) for each in (apply, hidden))
            return LanguageModel(params, whole_apply, max_length, hidden=whole_hidden, head=self.logits)
        return LanguageModel(
            params,
            apply=partial(apply, self),
            max_length=max_length,
            hidden=partial(hidden, self),
            head=self.logits,
            init_state=partial(init_state, self, max_length),
            step=partial(step, self),
        )


def _without_reach(forward: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The same function without the parameter ``reach``, so that it gets no trees."""

    def call(params: Weights, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        return forward(params, tokens, positions, segment_ids)

    return call


def apply(
    config: Decoder,
    params: Weights,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    reach: jax.Array | None = None,
) -> jax.Array:
    """Logits, ``float32[rows, length, vocab]``."""
    return config.logits(params, hidden(config, params, tokens, positions, segment_ids, reach))


def hidden(
    config: Decoder,
    params: Weights,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    reach: jax.Array | None = None,
) -> jax.Array:
    """The head's input, ``[rows, length, width]``."""
    return _run(config, params, tokens, Sight(positions, segment_ids, reach), None)[0]


def init_state(
    config: Decoder, max_length: int, params: Weights, rows: int, length: int | None = None
) -> Cache:
    """An empty cache of ``length`` positions for each row; ``max_length`` by default."""
    slots = max_length if length is None else length
    dtype = params["embedding"].dtype
    return empty_cache(rows, config.layers, config.key_heads, slots, config.head_dim, dtype)


def step(
    config: Decoder,
    params: Weights,
    state: Cache,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
) -> tuple[Cache, jax.Array]:
    """The cache after these tokens, and the head's input for them."""
    x, (keys, values) = _run(config, params, tokens, Sight(positions, segment_ids), state)
    return remember(state, keys, values, positions, segment_ids), x


def _run(
    config: Decoder, params: Weights, tokens: jax.Array, sight: Sight, state: Cache | None
) -> tuple[jax.Array, Any]:
    """The head's input and, with a state, each layer's keys and values."""
    turns = [rotation(rope, sight.positions, sight.segment_ids) for rope in config.ropes]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *turns) if len(turns) > 1 else None

    def layer(x: jax.Array, scanned: tuple[Weights, jax.Array]) -> tuple[jax.Array, Any]:
        weights, at = scanned
        made: list[tuple[jax.Array, jax.Array]] = []

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            if turns:
                turn = (
                    turns[0] if stacked is None else jax.tree.map(lambda each: each[weights["rope"]], stacked)
                )
                q, k = rotate(q, turn), rotate(k, turn)
            made.append((k, v))
            cached = None if state is None else CachedLayer(state, at)
            scale, window = weights.get("scale", config.scale), weights.get("window")
            return attend(q, k, v, sight, scale=scale, window=window, cap=config.cap, cached=cached)

        x = config.block({**params.get("apart", {}), **weights}, x, mix)
        return x, None if state is None else made[0]

    scanned = ({**params["layers"], **config.per_layer()}, jnp.arange(config.layers))
    x, made = jax.lax.scan(layer, config.embed(params, tokens, sight.positions), scanned)
    return config.norm(params, "norm", x), made
