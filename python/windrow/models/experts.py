"""Mixtures of experts: Mixtral and Qwen3-MoE.

Llama (Mixtral) or Qwen3 whose MLP is a mixture of experts: a router sends each token
through a few of them. Sources: Jiang et al., Mixtral of Experts, 2024; the Qwen3 report,
2025; field names and defaults as in the Hugging Face configurations.

    probs   = softmax(router(x))
    y       = sum over the best few experts of prob * expert(x)

Token-expert pairs are sorted by expert, and each expert processes its own consecutive rows. No token is
dropped, whatever the load, so a token's output does not depend on the rest of the batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import RaggedDotDimensionNumbers

from windrow.models import llama
from windrow.models.config import Fields
from windrow.models.decoder import Weights
from windrow.models.layers import linear
from windrow.models.parameters import Leaf
from windrow.models.rotary import read_rope
from windrow.sharding.platform import by_platform

Activation = Callable[[jax.Array], jax.Array]

PREFIX, IGNORED = llama.PREFIX, llama.IGNORED
RENAMED = {".block_sparse_moe.": ".mlp.", ".w1.": ".gate_proj.", ".w3.": ".up_proj.", ".w2.": ".down_proj."}
"""Mixtral's names."""

FUSED = {".experts.gate_up_proj": ("gate_proj", "up_proj"), ".experts.down_proj": ("down_proj",)}
"""Tensors that hold all experts, as transformers 5 keeps them in memory and can save them."""

_BLOCK = 256
_BY_EXPERT = RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((1,), (2,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[0]
)
"""``[pairs, in]`` by ``[experts, out, in]``."""


@dataclass(frozen=True, kw_only=True)
class Config(llama.Config):
    """Fields beyond Llama's.

    Attributes:
        experts: The number of experts.
        chosen: The number of experts per token.
        inner_expert: The hidden width of an expert.
        whole: Whether the chosen experts' probabilities are rescaled to sum to 1.
        dense: The layers with one network for all tokens instead.
    """

    experts: int
    chosen: int
    inner_expert: int
    whole: bool
    dense: tuple[int, ...] = ()

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        tree = super().leaves()
        if not self.dense:
            return tree
        layers = tree["layers"]
        own = {name: layers.pop(name) for name in self.mlp_leaves("")}
        tree["apart"] = own | {
            "dense_" + name: Leaf(leaf.tensor, leaf.axes, leaf.split, layers=self.dense)
            for name, leaf in super().mlp_leaves(PREFIX + "layers.{layer}.mlp.").items()
        }
        return tree

    def mlp_leaves(self, at: str) -> dict[str, Leaf]:
        """The router and the experts, for the layers that have them."""
        width, inner = (self.width,), (self.inner_expert,)
        layers = tuple(each for each in range(self.layers) if each not in self.dense) if self.dense else None
        gate, up, down = (f"{at}experts.{{expert}}.{name}_proj.weight" for name in ("gate", "up", "down"))
        return {
            "router": Leaf(at + "gate.weight", ((self.experts,), width), layers=layers),
            "gate": Leaf(gate, (inner, width), 0, layers=layers, experts=self.experts),
            "up": Leaf(up, (inner, width), 0, layers=layers, experts=self.experts),
            "down": Leaf(down, (width, inner), 1, layers=layers, experts=self.experts),
        }

    def per_layer(self) -> dict[str, jax.Array]:
        """The kind of network each layer has, and its index among that kind."""
        found = super().per_layer()
        if self.dense:
            kinds = [at in self.dense for at in range(self.layers)]
            nth = [kinds[:at].count(kind) for at, kind in enumerate(kinds)]
            found |= {"is_dense": jnp.asarray(kinds), "nth": jnp.asarray(nth, jnp.int32)}
        return found

    def mlp(self, weights: Weights, y: jax.Array) -> jax.Array:
        """The experts, or in some layers one network."""
        if not self.dense:
            return self.by_experts(weights, y)

        def pick(names: Mapping[str, str]) -> dict[str, jax.Array]:
            return {
                name: jax.lax.dynamic_index_in_dim(weights[stored], weights["nth"], keepdims=False)
                for name, stored in names.items()
            }

        def by_one(y: jax.Array) -> jax.Array:
            names = ("gate", "up", "down")
            return llama.Config.mlp(self, pick({name: "dense_" + name for name in names}), y)

        def by_experts(y: jax.Array) -> jax.Array:
            return self.by_experts(pick({name: name for name in ("router", "gate", "up", "down")}), y)

        mixed: jax.Array = jax.lax.cond(weights["is_dense"], by_one, by_experts, y)
        return mixed

    def by_experts(self, weights: Weights, y: jax.Array) -> jax.Array:
        """Sends each token through its experts, ``[rows, length, width]``."""
        flat = y.reshape(-1, self.width)
        chances = jax.nn.softmax(linear("nw,ew->ne", flat, weights["router"]).astype(jnp.float32), axis=-1)
        chances, chosen = jax.lax.top_k(chances, self.chosen)
        if self.whole:
            chances = chances / jnp.sum(chances, axis=-1, keepdims=True)
        order = jnp.argsort(chosen.reshape(-1))
        sizes = jnp.bincount(chosen.reshape(-1), length=self.experts).astype(jnp.int32)
        parts = (flat[order // self.chosen], weights["gate"], weights["up"], weights["down"], sizes)
        mixed: jax.Array = by_platform(
            *parts, cpu=partial(by_blocks, self.activation), default=partial(by_runs, self.activation)
        )
        mixed = mixed * chances.reshape(-1)[order][:, None].astype(mixed.dtype)
        back = jnp.zeros_like(mixed).at[order].set(mixed)
        return jnp.sum(back.reshape(*chosen.shape, self.width), axis=1).reshape(y.shape)


def by_runs(
    activation: Activation, x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array, sizes: jax.Array
) -> jax.Array:
    """Multiplies each expert's rows by its matrices, with ``ragged_dot_general``.

    Args:
        activation: That of the gated linear unit.
        x: ``[pairs, width]``, sorted by expert.
        gate: ``[experts, inner, width]``, as is ``up``.
        up: See ``gate``.
        down: ``[experts, width, inner]``.
        sizes: The number of rows of each expert, ``int32[experts]``.
    """
    gated = activation(_ragged(x, gate, sizes)) * _ragged(x, up, sizes)
    return _ragged(gated, down, sizes)


def by_blocks(
    activation: Activation, x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array, sizes: jax.Array
) -> jax.Array:
    """The same, in blocks that each belong to one expert; the last block of an expert is padded.

    It is for CPUs, where XLA has no ragged product and would multiply every row by every expert.
    """
    pairs, experts = x.shape[0], sizes.shape[0]
    size = min(_BLOCK, max(8, pairs // experts))
    count = pairs // size + experts
    blocks = (sizes + size - 1) // size
    ends = jnp.cumsum(blocks, dtype=jnp.int32)
    owner = jnp.repeat(jnp.arange(experts, dtype=jnp.int32), sizes, total_repeat_length=pairs)
    first = (ends - blocks) * size - (jnp.cumsum(sizes, dtype=jnp.int32) - sizes)
    place = first[owner] + jnp.arange(pairs, dtype=jnp.int32)
    padded = jnp.zeros((count * size, x.shape[1]), x.dtype).at[place].set(x)
    expert_of = jnp.searchsorted(ends, jnp.arange(count, dtype=jnp.int32), side="right")

    def block(_: None, part: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        rows, expert = part
        mine = (jax.lax.dynamic_index_in_dim(each, expert, keepdims=False) for each in (gate, up, down))
        opened, carried, closed = mine
        gated = activation(linear("bw,iw->bi", rows, opened)) * linear("bw,iw->bi", rows, carried)
        return None, linear("bi,wi->bw", gated, closed)

    _, made = jax.lax.scan(block, None, (padded.reshape(count, size, -1), expert_of))
    return made.reshape(padded.shape)[place]


def _ragged(x: jax.Array, weight: jax.Array, sizes: jax.Array) -> jax.Array:
    """Multiplies ``[pairs, in]``, ``sizes`` rows per expert, by each expert's ``[out, in]``."""
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    y = jax.lax.ragged_dot_general(
        x, weight, sizes, _BY_EXPERT, precision=precision, preferred_element_type=jnp.float32
    )
    return y.astype(x.dtype)


def read_config(fields: Fields) -> llama.Config:
    """The configuration of either model."""
    kind = fields.take("model_type")
    return _read_mixtral(fields) if kind == "mixtral" else _read_qwen3(fields)


def _read_mixtral(fields: Fields) -> Config:
    shared = llama.read_shared(fields, eps=1e-5, key_heads=8)
    return Config(
        **shared,
        ropes=(read_rope(fields, shared["head_dim"], theta=1_000_000.0),),
        windows=llama.read_window(fields, shared["layers"]),
        experts=_count(fields, 8),
        chosen=fields.size("num_experts_per_tok", 2),
        inner_expert=shared["inner"],
        whole=True,
    )


def _count(fields: Fields, default: int) -> int:
    """The number of experts, under either name."""
    name = "num_local_experts" if fields.take("num_local_experts", None) is not None else "num_experts"
    return fields.size(name, default)


def _read_qwen3(fields: Fields) -> llama.Config:
    shared = llama.read_shared(fields, key_heads=4)
    layers, bias = shared["layers"], fields.flag("attention_bias", False)
    every, alone = fields.size("decoder_sparse_step", 1), fields.take("mlp_only_layers", [])
    windowed = fields.flag("use_sliding_window", False)
    dense = tuple(at for at in range(layers) if at in alone or (at + 1) % every)
    shared |= {
        "ropes": (read_rope(fields, shared["head_dim"]),),
        "windows": llama.read_window(fields, layers, 4096) if windowed else None,
        "bias_qkv": bias,
        "bias_out": bias,
        "norm_heads": True,
    }
    if len(dense) == layers:
        return llama.Config(**shared)
    return Config(
        **shared,
        experts=_count(fields, 128),
        chosen=fields.size("num_experts_per_tok", 8),
        inner_expert=fields.size("moe_intermediate_size", 768),
        whole=fields.flag("norm_topk_prob", False),
        dense=dense,
    )
