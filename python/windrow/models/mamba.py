"""Mamba: a recurrence that chooses, token by token, what to keep.

Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State
Spaces, 2023; field names and defaults as in the Hugging Face configuration.

    x = embedding[token]
    each layer:  u, gate = in(norm(x))
                 u       = silu(causal convolution of u)
                 dt, b, c = maps of u;  dt = softplus(dt)
                 state   = exp(dt * a) * state + dt * b * u        one state [inner, size] per row
                 x       = x + out((state . c + d * u) * silu(gate))
    logits = head(norm(x))

The recurrence goes token by token, so the numbers do not depend on how a row
is cut into chunks. A row begins anew at position 0, so rows may be packed; where
the segment id is 0 nothing moves. ``apply`` is ``step`` from the empty state.

Parameters: ``embedding [vocab, width]``, ``layers`` (every leaf with a leading
layer axis), ``norm [width]`` and, unless tied to the embedding, ``head [vocab, width]``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.models.config import Fields
from windrow.models.layers import ACTIVATIONS, along, contract, linear, rms_norm
from windrow.models.parameters import Leaf

PREFIX = "backbone."
IGNORED: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """What the computation depends on; sizes are counts."""

    vocab: int
    width: int
    layers: int
    inner: int
    size: int
    rank: int
    taps: int
    activation: Callable[[jax.Array], jax.Array]
    eps: float
    bias: bool
    bias_conv: bool
    wide_residual: bool
    tied: bool


class State(NamedTuple):
    """What a row carries on: its last inputs to the convolution, and the recurrence.

    ``recent``: ``[rows, layers, taps - 1, inner]``; ``memory``: ``float32[rows, layers, inner, size]``.
    """

    recent: jax.Array
    memory: jax.Array


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width = fields.size("hidden_size")
    rank = fields.take("time_step_rank", "auto")
    return Config(
        vocab=fields.size("vocab_size"),
        width=width,
        layers=fields.size("num_hidden_layers"),
        inner=fields.size("intermediate_size", int(fields.number("expand", 2) * width)),
        size=fields.size("state_size", 16),
        rank=-(-width // 16) if rank == "auto" else fields.size("time_step_rank"),
        taps=fields.size("conv_kernel", 4),
        activation=ACTIVATIONS[fields.choice("hidden_act", ACTIVATIONS, "silu")],
        eps=fields.number("layer_norm_epsilon", 1e-5),
        bias=fields.flag("use_bias", False),
        bias_conv=fields.flag("use_conv_bias", True),
        wide_residual=fields.flag("residual_in_fp32", True),
        tied=fields.flag("tie_word_embeddings", True),
    )


def leaves(config: Config) -> dict[str, Any]:
    """Where each parameter is stored, how it is shaped and what may be divided."""
    c = config
    width, inner, size = (c.width,), (c.inner,), (c.size,)
    at = PREFIX + "layers.{layer}."
    mixer = at + "mixer."
    layers = {
        "norm": Leaf(at + "norm.weight", (width,)),
        "conv": Leaf(mixer + "conv1d.weight", (inner, (1,), (c.taps,)), split=0),
        "select": Leaf(mixer + "x_proj.weight", ((c.rank + 2 * c.size,), inner), split=1),
        "dt": Leaf(mixer + "dt_proj.weight", (inner, (c.rank,)), split=0),
        "dt_bias": Leaf(mixer + "dt_proj.bias", (inner,), split=0),
        "a_log": Leaf(mixer + "A_log", (inner, size), split=0),
        "d": Leaf(mixer + "D", (inner,), split=0),
        "out": Leaf(mixer + "out_proj.weight", (width, inner), split=1),
    }
    for k, name in enumerate(("in", "gate")):
        layers[name] = Leaf(mixer + "in_proj.weight", (inner, width), split=0, part=(k, 2))
        if c.bias:
            layers[name + "_bias"] = Leaf(mixer + "in_proj.bias", (inner,), split=0, part=(k, 2))
    if c.bias:
        layers["out_bias"] = Leaf(mixer + "out_proj.bias", (width,))
    if c.bias_conv:
        layers["conv_bias"] = Leaf(mixer + "conv1d.bias", (inner,), split=0)
    tree: dict[str, Any] = {
        "embedding": Leaf(PREFIX + "embeddings.weight", ((c.vocab,), width), split=0),
        "layers": layers,
        "norm": Leaf(PREFIX + "norm_f.weight", (width,)),
    }
    if not c.tied:
        tree["head"] = Leaf("lm_head.weight", ((c.vocab,), width), split=0)
    return tree


def language_model(config: Config, params: Mapping[str, Any], max_length: int | None) -> LanguageModel:
    """The functions for one configuration; ``max_length`` is a choice, not a need."""
    return LanguageModel(
        params,
        apply=partial(apply, config),
        max_length=max_length,
        hidden=partial(hidden, config),
        head=head,
        init_state=partial(init_state, config),
        step=partial(step, config),
    )


def apply(
    config: Config, params: Mapping[str, Any], tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> jax.Array:
    """Logits, ``float32[rows, length, vocab]``."""
    return head(params, hidden(config, params, tokens, positions, segment_ids))


def hidden(
    config: Config, params: Mapping[str, Any], tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> jax.Array:
    """What the head takes, ``[rows, length, width]``."""
    state = init_state(config, params, tokens.shape[0])
    return step(config, params, state, tokens, positions, segment_ids)[1]


def head(params: Mapping[str, Any], picked: jax.Array) -> jax.Array:
    """Logits, ``float32[..., vocab]``, for ``[..., width]``."""
    return contract("...w,vw->...v", picked, params.get("head", params["embedding"]))


def init_state(config: Config, params: Mapping[str, Any], rows: int) -> State:
    """The state before the first token: zeros."""
    recent = jnp.zeros((rows, config.layers, config.taps - 1, config.inner), params["embedding"].dtype)
    return State(recent, jnp.zeros((rows, config.layers, config.inner, config.size), jnp.float32))


def step(
    config: Config,
    params: Mapping[str, Any],
    state: State,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
) -> tuple[State, jax.Array]:
    """The state after these tokens, and what the head takes for them."""
    real = segment_ids > 0

    def layer(x: jax.Array, scanned: tuple[Any, State]) -> tuple[jax.Array, State]:
        weights, before = scanned
        y = rms_norm(x.astype(weights["norm"].dtype), weights["norm"], config.eps)
        y, after = _mix(config, weights, before, y, positions, real)
        return x + y.astype(x.dtype), after

    x = params["embedding"][tokens]
    x = x.astype(jnp.float32) if config.wide_residual else x
    by_layer = State(*(jnp.moveaxis(part, 1, 0) for part in state))
    x, after = jax.lax.scan(layer, x, (params["layers"], by_layer))
    x = rms_norm(x, params["norm"], config.eps)
    return State(*(jnp.moveaxis(part, 0, 1) for part in after)), x


def _mix(
    config: Config,
    weights: Mapping[str, jax.Array],
    before: State,
    y: jax.Array,
    positions: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, State]:
    """One layer's mixer over ``y``, ``[rows, length, width]``."""
    u, gate = (
        linear("rlw,iw->rli", y, weights[name], weights.get(name + "_bias")) for name in ("in", "gate")
    )
    u, recent = _convolve(config, weights, before.recent, u, positions, real)
    u = config.activation(u)
    picked = linear("rli,si->rls", u, weights["select"])
    dt, b, c = jnp.split(picked, [config.rank, config.rank + config.size], axis=-1)
    dt = jax.nn.softplus(linear("rls,is->rli", dt, weights["dt"], weights["dt_bias"]))
    mixed, memory = _recur(weights, before.memory, (u, dt, b, c), positions, real)
    mixed = (mixed + u * along(weights["d"], u)) * config.activation(gate)
    return linear("rli,wi->rlw", mixed, weights["out"], weights.get("out_bias")), State(recent, memory)


def _convolve(
    config: Config,
    weights: Mapping[str, jax.Array],
    recent: jax.Array,
    u: jax.Array,
    positions: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A causal convolution of each feature by itself, over the real tokens of a segment only.

    The real tokens are first moved together behind ``recent``, so that the token
    ``k`` before a token stands ``k`` places before it whatever padding there was.
    """
    kept = config.taps - 1
    place = jnp.where(real, kept + jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, kept + real.shape[1])
    close = jnp.pad(recent, ((0, 0), (0, u.shape[1]), (0, 0)))
    close = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))(close, place, u)

    def take(places: jax.Array) -> jax.Array:
        return jnp.take_along_axis(close, places[:, :, None], axis=1, mode="clip")

    taps = jnp.moveaxis(weights["conv"], 2, 0)[:, None, None, :, 0]  # [taps, 1, 1, inner]
    y = u * taps[kept]
    for back in range(1, config.taps):
        y = y + jnp.where((positions >= back)[:, :, None], take(place - back), 0) * taps[kept - back]
    count = jnp.sum(real, axis=1, keepdims=True, dtype=jnp.int32)
    y = y + along(weights["conv_bias"], y) if config.bias_conv else y
    return y, take(count + jnp.arange(kept, dtype=jnp.int32)[None])


def _recur(
    weights: Mapping[str, jax.Array],
    memory: jax.Array,
    inputs: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    positions: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The recurrence in float32: ``[rows, length, inner]``, and the memory after the last token."""
    a = -jnp.exp(weights["a_log"].astype(jnp.float32))[None]

    def token(memory: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        u, dt, b, c, first, moves = now
        kept = jnp.where(first[:, None, None], 0, memory)
        kept = jnp.exp(dt[:, :, None] * a) * kept + (dt * u)[:, :, None] * b[:, None, :]
        return jnp.where(moves[:, None, None], kept, memory), jnp.sum(kept * c[:, None, :], axis=-1)

    wide = (part.astype(jnp.float32) for part in inputs)
    by_token = [jnp.moveaxis(part, 1, 0) for part in (*wide, positions == 0, real)]
    memory, mixed = jax.lax.scan(token, memory, tuple(by_token))
    return jnp.moveaxis(mixed, 0, 1).astype(inputs[0].dtype), memory
