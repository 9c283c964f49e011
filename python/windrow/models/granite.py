"""Granite 3: Llama with four multipliers.

Source: Granite Team, Granite 3.0 Language Models, 2024; field names and defaults as in
the Hugging Face configuration.
"""

from dataclasses import dataclass

import jax

from windrow.models import llama
from windrow.models.config import Fields
from windrow.models.decoder import Weights
from windrow.models.rotary import read_rope

PREFIX, IGNORED = llama.PREFIX, llama.IGNORED


@dataclass(frozen=True, kw_only=True)
class Config(llama.Config):
    """The factors for embeddings and residuals, and the divisor for logits."""

    embedding_scale: float
    residual_scale: float
    logits_scale: float

    def embed(self, params: Weights, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Scaled by the model's factor."""
        return super().embed(params, tokens, positions) * self.embedding_scale

    def add(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Scales what is added."""
        return x + y * self.residual_scale

    def logits(self, params: Weights, picked: jax.Array) -> jax.Array:
        """Scaled by the model's factor."""
        return super().logits(params, picked) / self.logits_scale


def read_config(fields: Fields) -> Config:
    """The configuration."""
    shared, bias = llama.read_shared(fields), fields.flag("attention_bias", False)
    return Config(
        **shared | {"scale": fields.number("attention_multiplier", 1.0)},
        embedding_scale=fields.number("embedding_multiplier", 1.0),
        residual_scale=fields.number("residual_multiplier", 1.0),
        logits_scale=fields.number("logits_scaling", 1.0),
        ropes=(read_rope(fields, shared["head_dim"]),),
        bias_qkv=bias,
        bias_out=bias,
        bias_mlp=fields.flag("mlp_bias", False),
    )
