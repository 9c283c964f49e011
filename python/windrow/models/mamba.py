"""Mamba: a recurrent model with a selective state space.

Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State
Spaces, 2023; field names and defaults as in the Hugging Face configuration.

    each layer:  u, gate = in(norm(x))
                 u       = silu(causal convolution of u)
                 dt, b, c = maps of u;  dt = softplus(dt)
                 state   = exp(dt * a) * state + dt * b * u        one state [inner, size] per row
                 x       = x + out((state . c + d * u) * silu(gate))
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windrow.models.config import Fields
from windrow.models.layers import ACTIVATIONS, along, linear, rms_norm
from windrow.models.parameters import Leaf, embeddings
from windrow.models.recurrent import Recurrent, Weights, convolve

PREFIX = "backbone."
IGNORED: tuple[str, ...] = ()
RENAMED = {"backbone.embedding.": "backbone.embeddings."}  # in checkpoints of the model's authors


class State(NamedTuple):
    """A row's state: the last inputs of the convolution, and the recurrent state.

    ``recent``: ``[rows, layers, taps - 1, inner]``; ``memory``: ``float32[rows, layers, inner, size]``.
    """

    recent: jax.Array
    memory: jax.Array


@dataclass(frozen=True, kw_only=True)
class Config(Recurrent):
    """Fields beyond those of every recurrent model; sizes are counts."""

    inner: int
    size: int
    rank: int
    taps: int
    activation: Callable[[jax.Array], jax.Array]
    bias: bool
    bias_conv: bool
    wide_residual: bool

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        width, inner, size = (self.width,), (self.inner,), (self.size,)
        at = PREFIX + "layers.{layer}."
        mixer = at + "mixer."
        layers = {
            "norm": Leaf(at + "norm.weight", (width,)),
            "conv": Leaf(mixer + "conv1d.weight", (inner, (1,), (self.taps,)), split=0),
            "select": Leaf(mixer + "x_proj.weight", ((self.rank + 2 * self.size,), inner), split=1),
            "dt": Leaf(mixer + "dt_proj.weight", (inner, (self.rank,)), split=0),
            "dt_bias": Leaf(mixer + "dt_proj.bias", (inner,), split=0),
            "a_log": Leaf(mixer + "A_log", (inner, size), split=0),
            "d": Leaf(mixer + "D", (inner,), split=0),
            "out": Leaf(mixer + "out_proj.weight", (width, inner), split=1),
        }
        for k, name in enumerate(("in", "gate")):
            within = (k * self.inner, 2 * self.inner)
            layers[name] = Leaf(mixer + "in_proj.weight", (inner, width), split=0, within=within)
            if self.bias:
                layers[name + "_bias"] = Leaf(mixer + "in_proj.bias", (inner,), split=0, within=within)
        if self.bias:
            layers["out_bias"] = Leaf(mixer + "out_proj.bias", (width,))
        if self.bias_conv:
            layers["conv_bias"] = Leaf(mixer + "conv1d.bias", (inner,), split=0)
        outer = embeddings(self, PREFIX + "embeddings.weight", PREFIX + "norm_f.weight")
        return outer | {"layers": layers}

    def init_state(self, params: Weights, rows: int) -> State:
        """Zeros."""
        recent = jnp.zeros((rows, self.layers, self.taps - 1, self.inner), params["embedding"].dtype)
        return State(recent, jnp.zeros((rows, self.layers, self.inner, self.size), jnp.float32))

    def embed(self, params: Weights, tokens: jax.Array) -> jax.Array:
        """Layers may add up in float32."""
        x = super().embed(params, tokens)
        return x.astype(jnp.float32) if self.wide_residual else x

    def block(
        self, weights: Weights, before: State, x: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, State]:
        """One layer."""
        y = rms_norm(x.astype(weights["norm"].dtype), weights["norm"], self.eps)
        y, after = _mix(self, weights, before, y, positions, real)
        return x + y.astype(x.dtype), after


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


def _mix(
    config: Config,
    weights: Weights,
    before: State,
    y: jax.Array,
    positions: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, State]:
    """One layer's mixer over ``y``, ``[rows, length, width]``."""
    u, gate = (
        linear("rlw,iw->rli", y, weights[name], weights.get(name + "_bias")) for name in ("in", "gate")
    )
    u, recent = convolve(weights, before.recent, u, positions, real)
    u = config.activation(u)
    picked = linear("rli,si->rls", u, weights["select"])
    dt, b, c = jnp.split(picked, [config.rank, config.rank + config.size], axis=-1)
    dt = jax.nn.softplus(linear("rls,is->rli", dt, weights["dt"], weights["dt_bias"]))
    mixed, memory = _recur(weights, before.memory, (u, dt, b, c), positions, real)
    mixed = (mixed + u * along(weights["d"], u)) * config.activation(gate)
    return linear("rli,wi->rlw", mixed, weights["out"], weights.get("out_bias")), State(recent, memory)


def _recur(
    weights: Weights,
    memory: jax.Array,
    inputs: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    positions: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The recurrence in float32: its outputs, ``[rows, length, inner]``, and the final state."""
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
