"""Mamba 2: a recurrence whose state decays by one number per head, computed in chunks.

Source: Dao and Gu, Transformers are SSMs, 2024; field names and defaults as in the
Hugging Face configuration.

    each layer:  gate, u, dt = in(norm(x))
                 u, b, c = silu(causal convolution of u);  dt = softplus(dt + bias)
                 state   = exp(dt * a) * state + dt * u b^T        one state [head_dim, size] per head
                 x       = x + out(norm((state c + d * u) * silu(gate)))

Within a chunk each token reads the earlier ones directly, as in attention; the state is
carried from chunk to chunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from windrow.models import state_space
from windrow.models.config import Fields
from windrow.models.layers import along, contract, linear, rms_norm
from windrow.models.parameters import Leaf, embeddings
from windrow.models.recurrent import Weights, by_chunks, paths
from windrow.models.state_space import State, StateSpace, convolve, read_shared

PREFIX, IGNORED, RENAMED = state_space.PREFIX, state_space.IGNORED, state_space.RENAMED

_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Config(StateSpace):
    """Fields beyond those of both kinds; sizes are counts."""

    heads: int
    head_dim: int
    groups: int
    size: int
    least_dt: float
    most_dt: float

    @property
    def inner(self) -> int:
        """Features inside a layer."""
        return self.heads * self.head_dim

    @property
    def mixed(self) -> int:
        """Features that go through the convolution."""
        return self.inner + 2 * self.groups * self.size

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        width, inner, heads = (self.width,), (self.inner,), (self.heads,)
        at = PREFIX + "layers.{layer}."
        mixer = at + "mixer."
        layers = {
            "norm": Leaf(at + "norm.weight", (width,)),
            "conv": Leaf(mixer + "conv1d.weight", ((self.mixed,), (1,), (self.taps,)), split=0),
            "dt_bias": Leaf(mixer + "dt_bias", (heads,), split=0),
            "a_log": Leaf(mixer + "A_log", (heads,), split=0),
            "d": Leaf(mixer + "D", (heads,), split=0),
            "norm_gated": Leaf(mixer + "norm.weight", (inner,), split=0),
            "out": Leaf(mixer + "out_proj.weight", (width, inner), split=1),
        }
        begin, whole = 0, self.inner + self.mixed + self.heads
        for name, size in (("gate", self.inner), ("in", self.mixed), ("dt", self.heads)):
            within = (begin, whole)
            layers[name] = Leaf(mixer + "in_proj.weight", ((size,), width), split=0, within=within)
            if self.bias:
                layers[name + "_in_bias"] = Leaf(mixer + "in_proj.bias", ((size,),), split=0, within=within)
            begin += size
        if self.bias:
            layers["out_bias"] = Leaf(mixer + "out_proj.bias", (width,))
        if self.bias_conv:
            layers["conv_bias"] = Leaf(mixer + "conv1d.bias", ((self.mixed,),), split=0)
        outer = embeddings(self, PREFIX + "embeddings.weight", PREFIX + "norm_f.weight")
        return outer | {"layers": layers}

    def init_state(self, params: Weights, rows: int) -> State:
        """Zeros."""
        recent = jnp.zeros((rows, self.layers, self.taps - 1, self.mixed), params["embedding"].dtype)
        memory = (rows, self.layers, self.heads, self.head_dim, self.size)
        return State(recent, jnp.zeros(memory, jnp.float32))

    def finish(self, params: Weights, x: jax.Array) -> jax.Array:
        """In the parameters' dtype."""
        return super().finish(params, x).astype(params["norm"].dtype)

    def mix(
        self, weights: Weights, before: State, y: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, State]:
        """One layer's mixer over ``y``, ``[rows, length, width]``."""
        gate, u, dt = (
            linear("rlw,iw->rli", y, weights[name], weights.get(name + "_in_bias"))
            for name in ("gate", "in", "dt")
        )
        u, recent = convolve(weights, before.recent, u, positions, real)
        u, b, c = jnp.split(self.activation(u), [self.inner, self.inner + self.groups * self.size], axis=-1)
        dt = jax.nn.softplus(dt + along(weights["dt_bias"], dt)).astype(jnp.float32)
        dt = jnp.where(real[:, :, None], jnp.clip(dt, self.least_dt, self.most_dt), 0)
        u = u.reshape(*u.shape[:2], self.heads, self.head_dim).astype(jnp.float32)
        b, c = (each.reshape(*each.shape[:2], self.groups, self.size).astype(jnp.float32) for each in (b, c))
        fading = dt * along(-jnp.exp(weights["a_log"].astype(jnp.float32)), dt)

        def chunk(memory: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _recur(self, memory, *inputs)

        memory, mixed = by_chunks(
            chunk, _CHUNK, before.memory, fading, u * dt[..., None], b, c, real & (positions == 0)
        )
        mixed = mixed + u * weights["d"].astype(jnp.float32)[None, None, :, None]
        mixed = mixed.reshape(*mixed.shape[:2], self.inner) * jax.nn.silu(gate.astype(jnp.float32))
        grouped = mixed.reshape(*mixed.shape[:2], self.groups, -1)
        scale = weights["norm_gated"].reshape(self.groups, -1)
        mixed = rms_norm(grouped, scale, self.eps).reshape(mixed.shape).astype(y.dtype)
        return linear("rli,wi->rlw", mixed, weights["out"], weights.get("out_bias")), State(recent, memory)


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width, heads, head_dim = (
        fields.size("hidden_size"),
        fields.size("num_heads", 128),
        fields.size("head_dim", 64),
    )
    groups, expand = fields.size("n_groups", 8), fields.number("expand", 2)
    if int(expand * width) != heads * head_dim or heads % groups:
        raise ValueError(
            f"{fields.path}: num_heads ({heads}) times head_dim ({head_dim}) must be expand ({expand:g}) "
            f"times hidden_size ({width}), and num_heads a multiple of n_groups ({groups})"
        )
    least, most = _read_limit(fields)
    return Config(
        heads=heads,
        head_dim=head_dim,
        groups=groups,
        size=fields.size("state_size", 128),
        least_dt=least,
        most_dt=most,
        **read_shared(fields, tied=False),
    )


def _read_limit(fields: Fields) -> tuple[float, float]:
    """The bounds of dt; infinity has a special spelling in JSON."""
    stated = fields.take("time_step_limit", [0.0, float("inf")])
    try:
        least, most = (float(each["__float__"] if isinstance(each, Mapping) else each) for each in stated)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{fields.path}: 'time_step_limit' must be two numbers, not {stated!r}") from None
    return least, most


def _recur(
    config: Config,
    memory: jax.Array,
    fading: jax.Array,
    u: jax.Array,
    b: jax.Array,
    c: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A chunk in float32: the memory after it, and ``[rows, size, heads, head_dim]``."""
    path = paths(fading, first)
    left = jnp.where(path.reached, jnp.exp(path.between), 0)
    kept = jnp.where(path.carried, jnp.exp(path.since), 0)
    repeat = config.heads // config.groups
    b, c = (jnp.repeat(each, repeat, axis=2) for each in (b, c))
    seen = contract("rlhn,rshn->rhls", c, b) * left
    mixed = contract("rhls,rshd->rlhd", seen, u)
    mixed = mixed + contract("rlhn,rhdn->rlhd", c, memory) * jnp.moveaxis(kept, 1, 2)[..., None]
    new = contract("rshd,rshn->rhdn", u * jnp.moveaxis(left[:, :, -1], 1, 2)[..., None], b)
    return memory * kept[:, :, -1, None, None] + new, mixed
