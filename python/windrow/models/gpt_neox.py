"""GPT-NeoX: Pythia, GPT-NeoX-20B and related models.

Source: Black et al., GPT-NeoX-20B, 2022; field names and defaults as in the Hugging
Face configuration. Attention and MLP read the same input
(``use_parallel_residual``) or run in sequence; only part of each head is rotated.

    each layer:  x = x + attention(norm(x)) + project(gelu(expand(norm'(x))))

Additional parameters: ``norm_bias [width]``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from windrow.models.config import Fields
from windrow.models.decoder import Attention, Decoder, Weights
from windrow.models.layers import ACTIVATIONS, layer_norm, linear
from windrow.models.parameters import Leaf, embeddings
from windrow.models.rotary import read_rope, read_settings

PREFIX = "gpt_neox."
IGNORED = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
RENAMED = {"embed_out.weight": "lm_head.weight"}


@dataclass(frozen=True, kw_only=True)
class Config(Decoder):
    """Fields beyond the decoder's; ``inner`` is a count."""

    inner: int
    activation: Callable[[jax.Array], jax.Array]
    parallel: bool
    bias: bool

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        at, width, inner = PREFIX + "layers.{layer}.", (self.width,), (self.inner,)
        heads = (self.heads, self.head_dim)
        mixed = (self.heads, 3, self.head_dim)
        layers = {
            "attention_norm": Leaf(at + "input_layernorm.weight", (width,)),
            "attention_norm_bias": Leaf(at + "input_layernorm.bias", (width,)),
            "qkv": Leaf(at + "attention.query_key_value.weight", (mixed, width), split=0),
            "out": Leaf(at + "attention.dense.weight", (width, heads), split=1),
            "mlp_norm": Leaf(at + "post_attention_layernorm.weight", (width,)),
            "mlp_norm_bias": Leaf(at + "post_attention_layernorm.bias", (width,)),
            "expand": Leaf(at + "mlp.dense_h_to_4h.weight", (inner, width), split=0),
            "expand_bias": Leaf(at + "mlp.dense_h_to_4h.bias", (inner,), split=0),
            "project": Leaf(at + "mlp.dense_4h_to_h.weight", (width, inner), split=1),
            "project_bias": Leaf(at + "mlp.dense_4h_to_h.bias", (width,)),
        }
        if self.bias:
            layers["qkv_bias"] = Leaf(
                at + "attention.query_key_value.bias", ((*mixed[:2], 1, mixed[2]),), split=0
            )
            layers["out_bias"] = Leaf(at + "attention.dense.bias", (width,))
        outer = embeddings(self, PREFIX + "embed_in.weight", PREFIX + "final_layer_norm.weight")
        bias = Leaf(PREFIX + "final_layer_norm.bias", (width,))
        return outer | {"layers": layers, "norm_bias": bias}

    def norm(self, weights: Weights, name: str, x: jax.Array) -> jax.Array:
        """A layer norm, with bias."""
        return layer_norm(x, weights[name], weights[name + "_bias"], self.eps)

    def project(self, weights: Weights, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """One matrix holds the query, key and value of each head in turn."""
        mixed = linear("rlw,hkdw->rhkld", y, weights["qkv"], weights.get("qkv_bias"))
        return mixed[:, :, 0], mixed[:, :, 1], mixed[:, :, 2]

    def mlp(self, weights: Weights, y: jax.Array) -> jax.Array:
        """One hidden layer."""
        y = self.activation(linear("rlw,iw->rli", y, weights["expand"], weights["expand_bias"]))
        return linear("rli,wi->rlw", y, weights["project"], weights["project_bias"])

    def block(self, weights: Weights, x: jax.Array, mix: Attention) -> jax.Array:
        """Parallel or sequential residual."""
        if not self.parallel:
            return super().block(weights, x, mix)
        mixed = self.attention(weights, self.norm(weights, "attention_norm", x), mix)
        return self.mlp(weights, self.norm(weights, "mlp_norm", x)) + mixed + x


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    if width % heads:
        raise ValueError(
            f"{fields.path}: hidden_size ({width}) must be a multiple of num_attention_heads ({heads})"
        )
    fields.choice("is_causal", (True,), True)
    head_dim = width // heads
    own = {
        "rope_theta": fields.take("rotary_emb_base", 10000),
        "partial_rotary_factor": fields.take("rotary_pct", 0.25),
    }
    rope = read_rope(fields, head_dim, partial=True, settings=own | dict(read_settings(fields)))
    return Config(
        vocab=fields.size("vocab_size"),
        width=width,
        layers=fields.size("num_hidden_layers"),
        heads=heads,
        key_heads=heads,
        head_dim=head_dim,
        inner=fields.size("intermediate_size", 24576),
        activation=ACTIVATIONS[fields.choice("hidden_act", ACTIVATIONS, "gelu")],
        eps=fields.number("layer_norm_eps", 1e-5),
        scale=head_dim**-0.5,
        ropes=(rope,),
        parallel=fields.flag("use_parallel_residual", True),
        bias=fields.flag("attention_bias", True),
        tied=fields.flag("tie_word_embeddings", False),
    )
