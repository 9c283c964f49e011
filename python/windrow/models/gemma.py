"""Gemma 2 and the text models of Gemma 3.

Llama with norms before and after attention and MLP, norm weights stored as offsets from
1, embeddings scaled by the root of the width, soft caps on attention scores and logits
(Gemma 2), norms on each head's queries and keys and another rotary base for layers with
a window (Gemma 3). Sources: Gemma Team, Gemma 2 and Gemma 3 Technical Reports, 2024 and
2025; field names and defaults as in the Hugging Face configurations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from windrow.models import llama
from windrow.models.config import Fields
from windrow.models.decoder import Weights
from windrow.models.layers import rms_norm, soft_cap
from windrow.models.llama import FULL, SLIDING
from windrow.models.parameters import Leaf
from windrow.models.rotary import Rope, read_rope

PREFIX, IGNORED = llama.PREFIX, llama.IGNORED


@dataclass(frozen=True, kw_only=True)
class Config(llama.Config):
    """Llama's fields and the soft cap on the logits."""

    cap_logits: float | None

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        tree, at, width = super().leaves(), PREFIX + "layers.{layer}.", (self.width,)
        tree["layers"] |= {
            "attention_norm_after": Leaf(at + "post_attention_layernorm.weight", (width,)),
            "mlp_norm": Leaf(at + "pre_feedforward_layernorm.weight", (width,)),
            "mlp_norm_after": Leaf(at + "post_feedforward_layernorm.weight", (width,)),
        }
        return tree

    def embed(self, params: Weights, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Scaled by the square root of the width, which is rounded to the parameters' dtype."""
        embedded = super().embed(params, tokens, positions)
        return embedded * jnp.asarray(self.width**0.5, embedded.dtype)

    def norm(self, weights: Weights, name: str, x: jax.Array) -> jax.Array:
        """The stored weight plus 1 is the factor; the product is in float32."""
        return rms_norm(x, 1 + weights[name].astype(jnp.float32), self.eps).astype(x.dtype)

    def logits(self, params: Weights, picked: jax.Array) -> jax.Array:
        """Logits may have a soft cap."""
        logits = super().logits(params, picked)
        return logits if self.cap_logits is None else soft_cap(logits, self.cap_logits)


def read_config(fields: Fields) -> Config:
    """The configuration of either model."""
    third = fields.take("model_type") == "gemma3_text"
    fields.choice("use_bidirectional_attention", (False,), False)
    shared = llama.read_shared(
        fields,
        tied=True,
        activation=("hidden_activation", "gelu_pytorch_tanh"),
        head_dim=256,
        key_heads=4,
    )
    layers, head_dim, bias = shared["layers"], shared["head_dim"], fields.flag("attention_bias", False)
    every = fields.size("sliding_window_pattern", 6) if third else 2
    kinds = llama.read_kinds(fields, layers) or [
        FULL if (at + 1) % every == 0 else SLIDING for at in range(layers)
    ]
    window = fields.take("sliding_window", None) if "sliding_window" in fields else 4096
    ropes: tuple[Rope, ...] = (read_rope(fields, head_dim),) if not third else _read_ropes(fields, head_dim)
    scale = fields.number("query_pre_attn_scalar", 256) ** -0.5
    return Config(
        **shared | {"scale": scale},
        cap=None if third else _read_cap(fields, "attn_logit_softcapping", 50.0),
        cap_logits=_read_cap(fields, "final_logit_softcapping", None if third else 30.0),
        windows=llama.windows_of(fields, kinds, window),
        ropes=ropes,
        rope_of_layer=tuple(int(kind == SLIDING) for kind in kinds),
        bias_qkv=bias,
        bias_out=bias,
        norm_heads=third,
    )


def _read_cap(fields: Fields, name: str, default: float | None) -> float | None:
    if default is None or name in fields:
        return None if fields.take(name, None) is None else fields.number(name)
    return default


def _read_ropes(fields: Fields, head_dim: int) -> tuple[Rope, Rope]:
    """The embeddings for layers without and with a window."""
    return read_ropes_by_kind(
        fields,
        head_dim,
        full=fields.take("rope_theta", 1_000_000.0),
        sliding=fields.take("rope_local_base_freq", 10_000.0),
    )


def read_ropes_by_kind(fields: Fields, head_dim: int, *, full: float, sliding: float) -> tuple[Rope, Rope]:
    """``rope_parameters`` for each kind of layer; ``rope_scaling`` is for those without a window."""
    scaling = fields.take("rope_scaling", None) or {}
    given = fields.take("rope_parameters", None) or {}
    found = []
    for kind, theta in ((FULL, full), (SLIDING, sliding)):
        own = given.get(kind) if isinstance(given, Mapping) else None
        settings = {"rope_theta": theta} | dict(own or {}) | dict(scaling if kind == FULL else {})
        found.append(read_rope(fields, head_dim, settings=settings, nested=True))
    return found[0], found[1]
