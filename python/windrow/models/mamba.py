"""Mamba: a recurrent model with a selective state space.

Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State
Spaces, 2023; field names and defaults as in the Hugging Face configuration.

    each layer:  u, gate = in(norm(x))
                 u       = silu(causal convolution of u)
                 dt, b, c = maps of u;  dt = softplus(dt)
                 state   = exp(dt * a) * state + dt * b * u        one state [size, inner] per row
                 x       = x + out((state . c + d * u) * silu(gate))
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from windrow.models import state_space
from windrow.models.config import Fields
from windrow.models.layers import along, linear
from windrow.models.parameters import Leaf, embeddings
from windrow.models.recurrent import Weights
from windrow.models.state_space import State, StateSpace, convolve, read_shared

PREFIX, IGNORED, RENAMED = state_space.PREFIX, state_space.IGNORED, state_space.RENAMED


@dataclass(frozen=True, kw_only=True)
class Config(StateSpace):
    """Fields beyond those of both kinds; sizes are counts."""

    inner: int
    size: int
    rank: int

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
        return State(recent, jnp.zeros((rows, self.layers, self.size, self.inner), jnp.float32))

    def mix(
        self, weights: Weights, before: State, y: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, State]:
        """One layer's mixer over ``y``, ``[rows, length, width]``."""
        u, gate = (
            linear("rlw,iw->rli", y, weights[name], weights.get(name + "_bias")) for name in ("in", "gate")
        )
        u, recent = convolve(weights, before.recent, u, positions, real)
        u = self.activation(u)
        picked = linear("rli,si->rls", u, weights["select"])
        dt, b, c = jnp.split(picked, [self.rank, self.rank + self.size], axis=-1)
        dt = linear("rls,is->rli", dt, weights["dt"]).astype(jnp.float32)
        dt = jax.nn.softplus(dt + along(weights["dt_bias"].astype(jnp.float32), dt))
        mixed, memory = _recur(weights, before.memory, (u, dt, b, c), positions, real)
        mixed = mixed + u.astype(jnp.float32) * along(weights["d"].astype(jnp.float32), mixed)
        mixed = (mixed * jax.nn.silu(gate.astype(jnp.float32))).astype(u.dtype)
        return linear("rli,wi->rlw", mixed, weights["out"], weights.get("out_bias")), State(recent, memory)


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width = fields.size("hidden_size")
    rank = fields.take("time_step_rank", "auto")
    return Config(
        inner=fields.size("intermediate_size", int(fields.number("expand", 2) * width)),
        size=fields.size("state_size", 16),
        rank=-(-width // 16) if rank == "auto" else fields.size("time_step_rank"),
        **read_shared(fields, tied=True),
    )


def _recur(
    weights: Weights,
    memory: jax.Array,
    inputs: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    positions: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The recurrence in float32: its outputs, ``[rows, length, inner]``, and the final state.

    States have ``inner`` last: it is larger than ``size``, and CPUs add up leading axes with vector
    instructions.
    """
    a = -jnp.exp(weights["a_log"].astype(jnp.float32)).T[None]

    def token(memory: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        u, dt, b, c, first, moves = now
        kept = jnp.where(first[:, None, None], 0, memory)
        kept = jnp.exp(dt[:, None, :] * a) * kept + (dt * u)[:, None, :] * b[:, :, None]
        return jnp.where(moves[:, None, None], kept, memory), jnp.sum(kept * c[:, :, None], axis=1)

    wide = (part.astype(jnp.float32) for part in inputs)
    by_token = [jnp.moveaxis(part, 1, 0) for part in (*wide, positions == 0, real)]
    memory, mixed = jax.lax.scan(token, memory, tuple(by_token))
    return jnp.moveaxis(mixed, 0, 1), memory
