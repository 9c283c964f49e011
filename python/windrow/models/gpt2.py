"""GPT-2.

Source: Radford et al., Language Models are Unsupervised Multitask Learners,
2019; field names and defaults as in the Hugging Face configuration.

    x = embedding[token] + positions[position]
    each layer:  x = x + attention(norm(x))
                 x = x + project(gelu(expand(norm(x))))

Additional parameters: ``positions [places, width]`` and ``norm_bias [width]``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.models.config import Fields
from windrow.models.decoder import Decoder, Weights
from windrow.models.layers import ACTIVATIONS, layer_norm, linear
from windrow.models.parameters import Leaf, embeddings

PREFIX = "transformer."
IGNORED = (".attn.bias", ".attn.masked_bias")  # causal masks, stored as tensors in old checkpoints


@dataclass(frozen=True, kw_only=True)
class Config(Decoder):
    """Fields beyond the decoder's; sizes are counts."""

    places: int
    inner: int
    activation: Callable[[jax.Array], jax.Array]
    scaled_by_layer: bool

    def leaves(self) -> dict[str, Any]:
        """Each parameter's stored name, its shape and the axis that may be split."""
        width, inner, heads = (self.width,), (self.inner,), (self.heads, self.head_dim)
        at = PREFIX + "h.{layer}."
        layers = {
            "attention_norm": Leaf(at + "ln_1.weight", (width,)),
            "attention_norm_bias": Leaf(at + "ln_1.bias", (width,)),
            "out": Leaf(at + "attn.c_proj.weight", (heads, width), split=0),
            "out_bias": Leaf(at + "attn.c_proj.bias", (width,)),
            "mlp_norm": Leaf(at + "ln_2.weight", (width,)),
            "mlp_norm_bias": Leaf(at + "ln_2.bias", (width,)),
            "expand": Leaf(at + "mlp.c_fc.weight", (width, inner), split=1),
            "expand_bias": Leaf(at + "mlp.c_fc.bias", (inner,), split=0),
            "project": Leaf(at + "mlp.c_proj.weight", (inner, width), split=0),
            "project_bias": Leaf(at + "mlp.c_proj.bias", (width,)),
        }
        for k, name in enumerate("qkv"):
            within, bias = (k * self.width, 3 * self.width), (self.heads, 1, self.head_dim)
            layers[name] = Leaf(at + "attn.c_attn.weight", (width, heads), split=1, within=within)
            layers[name + "_bias"] = Leaf(at + "attn.c_attn.bias", (bias,), split=0, within=within)
        outer = embeddings(self, PREFIX + "wte.weight", PREFIX + "ln_f.weight")
        return outer | {
            "positions": Leaf(PREFIX + "wpe.weight", ((self.places,), width)),
            "layers": layers,
            "norm_bias": Leaf(PREFIX + "ln_f.bias", (width,)),
        }

    def embed(self, params: Weights, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Positions are learned."""
        embedded: jax.Array = params["embedding"][tokens] + params["positions"][positions]
        return embedded

    def norm(self, weights: Weights, name: str, x: jax.Array) -> jax.Array:
        """A layer norm, with bias."""
        return layer_norm(x, weights[name], weights[name + "_bias"], self.eps)

    def per_layer(self) -> dict[str, jax.Array]:
        """Each layer may have its own attention scale."""
        if not self.scaled_by_layer:
            return {}
        return {"scale": jnp.asarray([self.scale / (at + 1) for at in range(self.layers)], jnp.float32)}

    def project(self, weights: Weights, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Matrices are stored as ``[in, out]``."""
        q, k, v = (linear("rlw,whd->rhld", y, weights[name], weights[name + "_bias"]) for name in "qkv")
        return q, k, v

    def attention(self, weights: Weights, y: jax.Array, mix: Any) -> jax.Array:
        """Its output matrix, too, is stored as ``[in, out]``."""
        return linear("rhld,hdw->rlw", mix(*self.project(weights, y)), weights["out"], weights["out_bias"])

    def mlp(self, weights: Weights, y: jax.Array) -> jax.Array:
        """One hidden layer."""
        y = self.activation(linear("rlw,wi->rli", y, weights["expand"], weights["expand_bias"]))
        return linear("rli,iw->rlw", y, weights["project"], weights["project_bias"])

    def language_model(self, params: Weights, max_length: int) -> LanguageModel:
        """The functions for rows of at most ``max_length`` tokens."""
        if max_length > self.places:
            raise ValueError(
                f"max_length must be at most the model's {self.places} positions, not {max_length}"
            )
        return super().language_model(params, max_length)


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width, heads = _size(fields, "n_embd", "hidden_size"), _size(fields, "n_head", "num_attention_heads")
    if width % heads:
        raise ValueError(f"{fields.path}: n_embd ({width}) must be a multiple of n_head ({heads})")
    fields.choice("is_causal", (True,), True)
    head_dim = width // heads
    return Config(
        vocab=fields.size("vocab_size"),
        places=_size(fields, "n_positions", "max_position_embeddings", 1024),
        width=width,
        layers=_size(fields, "n_layer", "num_hidden_layers"),
        heads=heads,
        key_heads=heads,
        head_dim=head_dim,
        inner=fields.size("n_inner", 4 * width),
        activation=ACTIVATIONS[fields.choice("activation_function", ACTIVATIONS, "gelu_new")],
        eps=fields.number("layer_norm_epsilon", 1e-5),
        scale=head_dim**-0.5 if fields.flag("scale_attn_weights", True) else 1.0,
        scaled_by_layer=fields.flag("scale_attn_by_inverse_layer_idx", False),
        tied=fields.flag("tie_word_embeddings", True),
    )


def _size(fields: Fields, name: str, usual: str, default: int | None = None) -> int:
    """A size under GPT-2's own name, or under the usual one, which takes precedence."""
    found = usual if fields.take(usual, None) is not None else name
    return fields.size(found) if default is None else fields.size(found, default)
