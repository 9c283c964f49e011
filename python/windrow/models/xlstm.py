"""xLSTM: a matrix memory with exponential gates, computed in chunks.

Source: Beck et al., xLSTM, 2024, and xLSTM 7B, 2025; field names and defaults as in the
Hugging Face configuration; both ways of storing weights (``weight_mode``) are read.

    each layer:  x = x + out(sigmoid(o) * norm(memory of q, k, v by gates i, f))
                 x = x + down(silu(gate(norm(x))) * up(norm(x)))

    memory       m' = max(log f + m, i)
                 c' = exp(log f + m - m') c + exp(i - m') k v^T         n' likewise, without v
                 h  = q c' / (max(|q n'|, exp(-m')) + eps)

Within a chunk each token reads the earlier ones directly, as in attention; the memory is
carried from chunk to chunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windrow.models.config import Fields
from windrow.models.layers import along, contract, linear, rms_norm, soft_cap
from windrow.models.parameters import Leaf, embeddings
from windrow.models.recurrent import Recurrent, Weights, by_chunks, paths
from windrow.models.reductions import highest, mean, total

PREFIX = "backbone."
IGNORED: tuple[str, ...] = ()

_CHUNK = 64
_NOTHING = -1e30


class Memory(NamedTuple):
    """A row's state, in float32.

    ``c``: ``[rows, layers, heads, qk, v]``; ``n``: ``[rows, layers, heads, qk]``; ``m``:
    ``[rows, layers, heads]``, the log of the scale of both.
    """

    c: jax.Array
    n: jax.Array
    m: jax.Array


@dataclass(frozen=True, kw_only=True)
class Config(Recurrent):
    """Fields beyond those of every recurrent model; sizes are counts."""

    heads: int
    qk: int
    v: int
    inner: int
    eps_memory: float
    cap_gates: float
    cap_logits: float
    bias: bool
    fused: bool

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        at, width, heads, v = PREFIX + "blocks.{layer}.", (self.width,), (self.heads,), (self.heads, self.v)
        layers = {
            "norm": Leaf(at + "norm_mlstm.weight", (width,)),
            "norm_heads": Leaf(at + "mlstm_layer.multihead_norm.weight", (v,), split=0),
            "norm_mlp": Leaf(at + "norm_ffn.weight", (width,)),
            "out": Leaf(at + "mlstm_layer.out_proj.weight", (width, v), split=1),
            "down": Leaf(at + "ffn.proj_down.weight", (width, (self.inner,)), split=1),
        }
        if self.bias:
            layers |= {
                "norm_bias": Leaf(at + "norm_mlstm.bias", (width,)),
                "norm_heads_bias": Leaf(at + "mlstm_layer.multihead_norm.bias", (v,), split=0),
                "norm_mlp_bias": Leaf(at + "norm_ffn.bias", (width,)),
                "out_bias": Leaf(at + "mlstm_layer.out_proj.bias", (width,)),
                "down_bias": Leaf(at + "ffn.proj_down.bias", (width,)),
            }
        qk = (self.heads, self.qk)
        maps = {"q": ("q", qk), "k": ("k", qk), "v": ("v", v), "o": ("ogate_preact", v)}
        layers |= self._maps(at + "mlstm_layer.", maps, "qkv_opreact", self.bias)
        gates = {"i": ("igate_preact", heads), "f": ("fgate_preact", heads)}
        layers |= self._maps(at + "mlstm_layer.", gates, "ifgate_preact", bias=True)
        inner = {"gate": ("proj_up_gate", (self.inner,)), "up": ("proj_up", (self.inner,))}
        layers |= self._maps(at + "ffn.", inner, "proj_up_gate_z", self.bias)
        outer = embeddings(self, PREFIX + "embeddings.weight", PREFIX + "out_norm.weight")
        return outer | {"layers": layers}

    def _maps(
        self, at: str, maps: Mapping[str, tuple[str, tuple[int, ...]]], fused: str, bias: bool
    ) -> dict[str, Leaf]:
        """Linear maps of one input, stored separately or in one tensor."""
        found, begin = {}, 0
        sizes = {name: (axes[0] * axes[1] if len(axes) > 1 else axes[0]) for name, (_, axes) in maps.items()}
        for name, (stored, axes) in maps.items():
            stored = at + (fused if self.fused else stored)
            within = (begin, sum(sizes.values())) if self.fused else None
            found[name] = Leaf(stored + ".weight", (axes, (self.width,)), split=0, within=within)
            if bias:
                found[name + "_bias"] = Leaf(stored + ".bias", (axes,), split=0, within=within)
            begin += sizes[name]
        return found

    def init_state(self, params: Weights, rows: int) -> Memory:
        """Zeros."""
        del params
        outer = (rows, self.layers, self.heads)
        return Memory(
            jnp.zeros((*outer, self.qk, self.v), jnp.float32),
            jnp.zeros((*outer, self.qk), jnp.float32),
            jnp.zeros(outer, jnp.float32),
        )

    def block(
        self, weights: Weights, before: Memory, x: jax.Array, positions: jax.Array, real: jax.Array
    ) -> tuple[jax.Array, Memory]:
        """One layer."""
        y = _norm(weights, "norm", x, self.eps)
        mixed, after = _mix(self, weights, before, y, positions, real)
        x = x + mixed
        y = _norm(weights, "norm_mlp", x, self.eps)
        gate, up = (
            linear("rlw,iw->rli", y, weights[name], weights.get(name + "_bias")) for name in ("gate", "up")
        )
        down = linear("rli,wi->rlw", jax.nn.silu(gate) * up, weights["down"], weights.get("down_bias"))
        return x + down, after

    def logits(self, params: Weights, picked: jax.Array) -> jax.Array:
        """Logits have a soft cap."""
        return soft_cap(super().logits(params, picked), self.cap_logits)


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width = fields.size("hidden_size", fields.take("embedding_dim", None))
    heads, bias = fields.size("num_heads", 8), fields.flag("use_bias", False)
    fields.choice("embedding_dim", (width,), width)
    fields.choice("mode", ("inference",), "inference")
    fields.choice("inference_state_dtype", ("float32",), "float32")
    qk, v = (
        int(width * fields.number(name, default))
        for name, default in (("qk_dim_factor", 0.5), ("v_dim_factor", 1.0))
    )
    if qk % heads or v % heads:
        raise ValueError(
            f"{fields.path}: queries ({qk}) and values ({v}) must be multiples of num_heads ({heads})"
        )
    multiple = fields.size("ffn_round_up_to_multiple_of", 64)
    inner = int((width * fields.number("ffn_proj_factor", 2.667) + multiple - 1) // multiple * multiple)
    return Config(
        vocab=fields.size("vocab_size"),
        width=width,
        layers=fields.size("num_blocks", fields.take("num_hidden_layers", None)),
        heads=heads,
        qk=qk // heads,
        v=v // heads,
        inner=inner,
        eps=fields.number("norm_eps", 1e-6),
        eps_memory=fields.number("eps", 1e-6),
        cap_gates=fields.number("gate_soft_cap", 15.0),
        cap_logits=fields.number("output_logit_soft_cap", 30.0),
        bias=bias,
        fused=fields.choice("weight_mode", ("single", "fused"), "single") == "fused",
        tied=False,
    )


def _norm(weights: Weights, name: str, x: jax.Array, eps: float) -> jax.Array:
    y, bias = rms_norm(x, weights[name], eps), weights.get(name + "_bias")
    return y if bias is None else y + along(bias, y)


def _mix(
    config: Config, weights: Weights, before: Memory, y: jax.Array, positions: jax.Array, real: jax.Array
) -> tuple[jax.Array, Memory]:
    """One layer's memory over ``y``, ``[rows, length, width]``."""
    q, k, v, o = (
        linear("rlw,hdw->rlhd", y, weights[name], weights.get(name + "_bias"))
        for name in ("q", "k", "v", "o")
    )
    i, f = (
        soft_cap(linear("rlw,hw->rlh", y, weights[name], weights[name + "_bias"]), config.cap_gates).astype(
            jnp.float32
        )
        for name in ("i", "f")
    )
    i = jnp.where(real[:, :, None], i, _NOTHING)
    f = jnp.where(real[:, :, None], jax.nn.log_sigmoid(f), 0)
    q, k, v = (each.astype(jnp.float32) for each in (q, k, v))

    def chunk(memory: Memory, *inputs: jax.Array) -> tuple[Memory, jax.Array]:
        return _recur(config.eps_memory, memory, *inputs)

    after, mixed = by_chunks(
        chunk, _CHUNK, before, q * config.qk**-0.5, k, v, i, f, real & (positions == 0), real
    )
    mixed = mixed - mean(mixed)
    mixed = rms_norm(mixed, jnp.ones(config.v, y.dtype), config.eps) * along(weights["norm_heads"], mixed)
    if "norm_heads_bias" in weights:
        mixed = mixed + along(weights["norm_heads_bias"], mixed)
    mixed = jax.nn.sigmoid(o) * mixed
    return linear("rlhd,whd->rlw", mixed, weights["out"], weights.get("out_bias")), after


def _recur(
    eps: float,
    memory: Memory,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    i: jax.Array,
    f: jax.Array,
    first: jax.Array,
    real: jax.Array,
) -> tuple[Memory, jax.Array]:
    """A chunk: the memory after it, and ``float32[rows, size, heads, v]``."""
    path = paths(f, first)
    i = jnp.where(real[:, None], jnp.moveaxis(i, 1, 2), _NOTHING)
    left = jnp.where(path.reached, path.between + i[:, :, None], _NOTHING)
    # A segment that begins in the chunk starts with m = 0, which then decays as usual.
    begun = jnp.where(
        path.reached & first[:, None, None], path.between + jnp.moveaxis(f, 1, 2)[:, :, None], _NOTHING
    )
    before = jnp.where(path.carried, path.since + memory.m[:, :, None], highest(begun)[..., 0])
    m = jnp.maximum(before, highest(left)[..., 0])
    left, kept = jnp.exp(left - m[..., None]), jnp.where(path.carried, jnp.exp(before - m), 0)
    seen = contract("rlhd,rshd->rhls", q, k) * left
    values = contract("rhls,rshv->rhlv", seen, v) + contract("rlhd,rhdv->rhlv", q, memory.c) * kept[..., None]
    weight = total(seen)[..., 0] + contract("rlhd,rhd->rhl", q, memory.n) * kept
    mixed = values / (jnp.maximum(jnp.abs(weight), jnp.exp(-m)) + eps)[..., None]
    gated = k * jnp.moveaxis(left[:, :, -1], 1, 2)[..., None]
    c = memory.c * kept[:, :, -1, None, None] + contract("rshd,rshv->rhdv", gated, v)
    n = memory.n * kept[:, :, -1, None] + jnp.sum(gated, axis=1)
    return Memory(c, n, m[:, :, -1]), jnp.moveaxis(mixed, 1, 2)
