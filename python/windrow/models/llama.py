"""The Llama family: Llama (SmolLM too), Mistral, Qwen2 and Qwen3.

One implementation with switches: biases in the attention projections (Qwen2), a norm on
each head's queries and keys (Qwen3), a sliding window (Mistral, some layers of Qwen).
Sources: Touvron et al., LLaMA, 2023; Jiang et al., Mistral 7B, 2023; the Qwen2 and
Qwen3 reports, 2024 and 2025; field names and defaults as in the Hugging Face
configurations.

    each layer:  x = x + attention(norm(x))
                 x = x + down(silu(gate(norm(x))) * up(norm(x)))

Most other families are variants of this one, each in its own module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from windrow.models.config import BRIDGE, Fields
from windrow.models.decoder import EVERYTHING, Decoder, Weights
from windrow.models.layers import ACTIVATIONS, linear
from windrow.models.parameters import Leaf, embeddings
from windrow.models.rotary import read_rope

PREFIX = "model."
IGNORED = (".rotary_emb.inv_freq",)  # stored in old checkpoints, but computed here

_KEY_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
"""The number of key heads if the file does not mention it."""

_WINDOW = 4096  # the file enables a window, or is Mistral's, but does not give its width


@dataclass(frozen=True, kw_only=True)
class Config(Decoder):
    """Fields beyond the decoder's; ``inner`` is a count."""

    inner: int
    activation: Callable[[jax.Array], jax.Array]
    bias_qkv: bool = False
    bias_out: bool = False
    bias_mlp: bool = False
    norm_heads: bool = False

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        at, width = PREFIX + "layers.{layer}.", (self.width,)
        norms = {
            "attention_norm": Leaf(at + "input_layernorm.weight", (width,)),
            "mlp_norm": Leaf(at + "post_attention_layernorm.weight", (width,)),
        }
        layers = norms | self.attention_leaves(at + "self_attn.") | self.mlp_leaves(at + "mlp.")
        outer = embeddings(self, PREFIX + "embed_tokens.weight", PREFIX + "norm.weight")
        return outer | {"layers": layers}

    def attention_leaves(self, at: str) -> dict[str, Leaf]:
        """Leaves of a layer's attention; their stored names begin with ``at``."""
        width, each = (self.width,), (self.head_dim,)
        found = {"out": Leaf(at + "o_proj.weight", (width, (self.heads, *each)), split=1)}
        for name, heads in (("q", self.heads), ("k", self.key_heads), ("v", self.key_heads)):
            found[name] = Leaf(f"{at}{name}_proj.weight", ((heads, *each), width), split=0)
            if self.bias_qkv:
                found[name + "_bias"] = Leaf(f"{at}{name}_proj.bias", ((heads, 1, *each),), split=0)
            if self.norm_heads and name != "v":
                found[name + "_norm"] = Leaf(f"{at}{name}_norm.weight", (each,))
        if self.bias_out:
            found["out_bias"] = Leaf(at + "o_proj.bias", (width,))
        return found

    def mlp_leaves(self, at: str) -> dict[str, Leaf]:
        """Leaves of a layer's MLP; their stored names begin with ``at``."""
        width, inner = (self.width,), (self.inner,)
        found = {
            "gate": Leaf(at + "gate_proj.weight", (inner, width), split=0),
            "up": Leaf(at + "up_proj.weight", (inner, width), split=0),
            "down": Leaf(at + "down_proj.weight", (width, inner), split=1),
        }
        if self.bias_mlp:
            found["gate_bias"] = Leaf(at + "gate_proj.bias", (inner,), split=0)
            found["up_bias"] = Leaf(at + "up_proj.bias", (inner,), split=0)
            found["down_bias"] = Leaf(at + "down_proj.bias", (width,))
        return found

    def project(self, weights: Weights, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries and keys may have a norm."""
        q, k, v = super().project(weights, y)
        return self.normed(weights, "q_norm", q), self.normed(weights, "k_norm", k), v

    def mlp(self, weights: Weights, y: jax.Array) -> jax.Array:
        """A gated linear unit."""
        gate, up = (
            linear("rlw,iw->rli", y, weights[name], weights.get(name + "_bias")) for name in ("gate", "up")
        )
        gated = self.activation(gate) * up
        return linear("rli,wi->rlw", gated, weights["down"], weights.get("down_bias"))


def read_config(fields: Fields) -> Config:
    """The configuration of any member of the family."""
    kind = fields.take("model_type")
    shared = read_shared(fields, key_heads=_KEY_HEADS.get(kind), head_dim=128 if kind == "qwen3" else None)
    bias = fields.flag("attention_bias", False) if kind in ("llama", "qwen3") else False
    return Config(
        **shared,
        ropes=(read_rope(fields, shared["head_dim"]),),
        windows=None if kind == "llama" else _read_windows(fields, kind, shared["layers"]),
        bias_qkv=bias or kind == "qwen2",
        bias_out=bias,
        bias_mlp=fields.flag("mlp_bias", False) if kind == "llama" else False,
        norm_heads=kind == "qwen3",
    )


def read_shared(
    fields: Fields,
    *,
    eps: float = 1e-6,
    tied: bool = False,
    activation: tuple[str, str] = ("hidden_act", "silu"),
    head_dim: int | None = None,
    key_heads: int | None = None,
) -> dict[str, Any]:
    """The fields shared by all families that use Llama's names, with each family's defaults."""
    width, heads, layers = (
        fields.size(name) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    head_dim = fields.size("head_dim", head_dim or max(width // heads, 1))
    absent = key_heads is not None and "num_key_value_heads" not in fields
    key_heads = fields.size("num_key_value_heads", key_heads if absent else heads)
    if heads % key_heads or head_dim % 2:
        raise ValueError(
            f"{fields.path}: num_attention_heads ({heads}) must be a multiple of num_key_value_heads "
            f"({key_heads}), and head_dim ({head_dim}) even"
        )
    fields.choice("is_causal", (True,), True)
    return {
        "vocab": fields.size("vocab_size"),
        "width": width,
        "layers": layers,
        "heads": heads,
        "key_heads": key_heads,
        "head_dim": head_dim,
        "scale": head_dim**-0.5,
        "inner": fields.size("intermediate_size"),
        "activation": ACTIVATIONS[fields.choice(activation[0], ACTIVATIONS, activation[1])],
        "eps": fields.number("rms_norm_eps", eps),
        "tied": fields.flag("tie_word_embeddings", tied),
    }


def _read_windows(fields: Fields, kind: str, layers: int) -> tuple[int, ...] | None:
    """Each layer's window: the same for all layers in Mistral, optional for some layers in Qwen."""
    used, first = True, 0
    if kind != "mistral":
        used = fields.flag("use_sliding_window", False)
        first = fields.size("max_window_layers", 28, least=0)
    window = fields.take("sliding_window", None) if "sliding_window" in fields else _WINDOW
    kinds = read_kinds(fields, layers)
    if kinds is None:
        kinds = [SLIDING if used and window is not None and at >= first else FULL for at in range(layers)]
    return windows_of(fields, kinds, window if used else None)


FULL, SLIDING = "full_attention", "sliding_attention"


def windows_of(fields: Fields, kinds: list[str], window: Any) -> tuple[int, ...] | None:
    """Each layer's window, by its kind."""
    if SLIDING not in kinds:
        return None
    if window is None:
        raise ValueError(
            f"{fields.path}: 'layer_types' has sliding_attention, but no 'sliding_window' is in use"
        )
    size = fields.size("sliding_window", window)
    return tuple(size if each == SLIDING else EVERYTHING for each in kinds)


def read_window(fields: Fields, layers: int, default: int | None = None) -> tuple[int, ...] | None:
    """The window shared by all layers, if there is one."""
    window = fields.take("sliding_window", None) if "sliding_window" in fields else default
    return None if window is None else windows_of(fields, [SLIDING] * layers, window)


def read_kinds(fields: Fields, layers: int) -> list[str] | None:
    """Each layer's kind from ``layer_types``, if the field is given."""
    kinds = fields.take("layer_types", None)
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise ValueError(
            f"{fields.path}: 'layer_types' must list a kind for each of {layers} layers, not {kinds!r}"
        )
    for each in kinds:
        if each not in (FULL, SLIDING):
            known = f"{FULL}, {SLIDING}"
            raise ValueError(f"{fields.path}: 'layer_types' has {each!r}; known: {known}. Otherwise {BRIDGE}")
    return kinds
