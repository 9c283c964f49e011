"""OLMo 2 and 3.

Llama with norms after attention and MLP instead of before, and norms over the
queries and keys of all heads together; OLMo 3 has windows in three of four layers. Sources:
OLMo Team, 2 OLMo 2 Furious, 2025, and Olmo 3, 2025; field names and defaults as in the
Hugging Face configurations.
"""

from dataclasses import dataclass
from typing import Any

import jax

from windrow.models import llama
from windrow.models.config import Fields
from windrow.models.decoder import Weights
from windrow.models.gemma import read_ropes_by_kind
from windrow.models.layers import rms_norm
from windrow.models.llama import FULL, SLIDING
from windrow.models.parameters import Leaf
from windrow.models.rotary import read_rope

PREFIX, IGNORED = llama.PREFIX, llama.IGNORED


@dataclass(frozen=True, kw_only=True)
class Config(llama.Config):
    """The configuration."""

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        tree, at, width = super().leaves(), PREFIX + "layers.{layer}.", (self.width,)
        layers = tree["layers"]
        del layers["attention_norm"], layers["mlp_norm"]
        layers |= {
            "attention_norm_after": Leaf(at + "post_attention_layernorm.weight", (width,)),
            "mlp_norm_after": Leaf(at + "post_feedforward_layernorm.weight", (width,)),
        }
        for name, heads in (("q", self.heads), ("k", self.key_heads)):
            norm = Leaf(f"{at}self_attn.{name}_norm.weight", ((heads, 1, self.head_dim),), split=0)
            layers[name + "_norm"] = norm
        return tree

    def normed(self, weights: Weights, name: str, x: jax.Array) -> jax.Array:
        """Queries and keys, ``[rows, heads, length, head_dim]``, have one norm over all heads."""
        if name in ("q_norm", "k_norm"):
            return rms_norm(x, weights[name], self.eps, together=(1,))
        return super().normed(weights, name, x)


def read_config(fields: Fields) -> Config:
    """The configuration of either model."""
    shared = llama.read_shared(fields, eps=1e-5)
    bias = fields.flag("attention_bias", False)
    if fields.take("model_type") == "olmo2":
        rope = read_rope(fields, shared["head_dim"])
        return Config(**shared, ropes=(rope,), bias_qkv=bias, bias_out=bias)
    layers = shared["layers"]
    kinds = llama.read_kinds(fields, layers) or [SLIDING if (at + 1) % 4 else FULL for at in range(layers)]
    window = fields.take("sliding_window", None) if "sliding_window" in fields else 4096
    theta = 500_000.0  # for layers with a window, regardless of the file's rope_theta, as in transformers
    ropes = read_ropes_by_kind(
        fields, shared["head_dim"], full=fields.take("rope_theta", theta), sliding=theta
    )
    return Config(
        **shared,
        ropes=ropes,
        rope_of_layer=tuple(int(kind == SLIDING) for kind in kinds),
        windows=llama.windows_of(fields, kinds, window),
        bias_qkv=bias,
        bias_out=bias,
    )
