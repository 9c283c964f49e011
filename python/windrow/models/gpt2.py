"""GPT-2.

Source: Radford et al., Language Models are Unsupervised Multitask Learners,
2019; field names and defaults as in the Hugging Face configuration.

    x = embedding[token] + positions[position]
    each layer:  x = x + attention(norm(x))
                 x = x + project(gelu(expand(norm(x))))
    logits = head(norm(x))

Parameters: ``embedding [vocab, width]``, ``positions [places, width]``, ``layers``
(every leaf with a leading layer axis), ``norm [width]``, ``norm_bias [width]``
and, unless tied to the embedding, ``head [vocab, width]``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.models.attention import Cache, Sight, attend, empty_cache, remember
from windrow.models.config import Fields
from windrow.models.layers import ACTIVATIONS, contract, layer_norm, linear
from windrow.models.parameters import Leaf

PREFIX = "transformer."
IGNORED = (".attn.bias", ".attn.masked_bias")  # causal masks, which old checkpoints hold as tensors


@dataclass(frozen=True)
class Config:
    """What the computation depends on; sizes are counts."""

    vocab: int
    places: int
    width: int
    layers: int
    heads: int
    inner: int
    activation: Callable[[jax.Array], jax.Array]
    eps: float
    scaled: bool
    scaled_by_layer: bool
    tied: bool


def read_config(fields: Fields) -> Config:
    """The configuration."""
    width, heads = _size(fields, "n_embd", "hidden_size"), _size(fields, "n_head", "num_attention_heads")
    if width % heads:
        raise ValueError(f"{fields.path}: n_embd ({width}) must be a multiple of n_head ({heads})")
    fields.choice("is_causal", (True,), True)
    return Config(
        vocab=fields.size("vocab_size"),
        places=_size(fields, "n_positions", "max_position_embeddings", 1024),
        width=width,
        layers=_size(fields, "n_layer", "num_hidden_layers"),
        heads=heads,
        inner=fields.size("n_inner", 4 * width),
        activation=ACTIVATIONS[fields.choice("activation_function", ACTIVATIONS, "gelu_new")],
        eps=fields.number("layer_norm_epsilon", 1e-5),
        scaled=fields.flag("scale_attn_weights", True),
        scaled_by_layer=fields.flag("scale_attn_by_inverse_layer_idx", False),
        tied=fields.flag("tie_word_embeddings", True),
    )


def _size(fields: Fields, name: str, usual: str, default: int | None = None) -> int:
    """A size under GPT-2's own name, or under the usual one, which outweighs it."""
    found = usual if fields.take(usual, None) is not None else name
    return fields.size(found) if default is None else fields.size(found, default)


def leaves(config: Config) -> dict[str, Any]:
    """Where each parameter is stored, how it is shaped and what may be divided."""
    c = config
    width, inner, heads = (c.width,), (c.inner,), (c.heads, c.width // c.heads)
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
        layers[name] = Leaf(at + "attn.c_attn.weight", (width, heads), split=1, part=(k, 3))
        layers[name + "_bias"] = Leaf(
            at + "attn.c_attn.bias", ((c.heads, 1, c.width // c.heads),), split=0, part=(k, 3)
        )
    tree: dict[str, Any] = {
        "embedding": Leaf(PREFIX + "wte.weight", ((c.vocab,), width), split=0),
        "positions": Leaf(PREFIX + "wpe.weight", ((c.places,), width)),
        "layers": layers,
        "norm": Leaf(PREFIX + "ln_f.weight", (width,)),
        "norm_bias": Leaf(PREFIX + "ln_f.bias", (width,)),
    }
    if not c.tied:
        tree["head"] = Leaf("lm_head.weight", ((c.vocab,), width), split=0)
    return tree


def language_model(config: Config, params: Mapping[str, Any], max_length: int) -> LanguageModel:
    """The functions for one configuration."""
    if max_length > config.places:
        raise ValueError(
            f"max_length must be at most the model's {config.places} positions, not {max_length}"
        )
    return LanguageModel(
        params,
        apply=partial(apply, config),
        max_length=max_length,
        hidden=partial(hidden, config),
        head=head,
        init_state=partial(init_state, config, max_length),
        step=partial(step, config),
    )


def apply(
    config: Config,
    params: Mapping[str, Any],
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    reach: jax.Array | None = None,
) -> jax.Array:
    """Logits, ``float32[rows, length, vocab]``."""
    return head(params, hidden(config, params, tokens, positions, segment_ids, reach))


def hidden(
    config: Config,
    params: Mapping[str, Any],
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    reach: jax.Array | None = None,
) -> jax.Array:
    """What the head takes, ``[rows, length, width]``."""
    sight = Sight(positions, segment_ids, reach)

    def layer(x: jax.Array, scanned: tuple[Any, jax.Array]) -> tuple[jax.Array, None]:
        weights, scale = scanned
        q, k, v = _project(config, weights, x)
        return _finish(config, weights, x, attend(q, k, v, sight, scale=scale)), None

    x, _ = jax.lax.scan(layer, _embed(params, tokens, positions), (params["layers"], _scales(config)))
    return layer_norm(x, params["norm"], params["norm_bias"], config.eps)


def head(params: Mapping[str, Any], picked: jax.Array) -> jax.Array:
    """Logits, ``float32[..., vocab]``, for ``[..., width]``."""
    return contract("...w,vw->...v", picked, params.get("head", params["embedding"]))


def init_state(
    config: Config, max_length: int, params: Mapping[str, Any], rows: int, length: int | None = None
) -> Cache:
    """An empty cache of ``length`` positions for each row; ``max_length`` by default."""
    slots = max_length if length is None else length
    dtype, head_dim = params["embedding"].dtype, config.width // config.heads
    return empty_cache(rows, config.layers, config.heads, slots, head_dim, dtype)


def step(
    config: Config,
    params: Mapping[str, Any],
    state: Cache,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
) -> tuple[Cache, jax.Array]:
    """The cache after these tokens, and what the head takes for them."""
    sight = Sight(positions, segment_ids)

    def layer(
        x: jax.Array, scanned: tuple[Any, jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        weights, scale, at = scanned
        q, k, v = _project(config, weights, x)
        mixed = attend(q, k, v, sight, scale=scale, cached=state.layer(at))
        return _finish(config, weights, x, mixed), (k, v)

    scanned = (params["layers"], _scales(config), jnp.arange(config.layers))
    x, (keys, values) = jax.lax.scan(layer, _embed(params, tokens, positions), scanned)
    x = layer_norm(x, params["norm"], params["norm_bias"], config.eps)
    return remember(state, keys, values, positions, segment_ids), x


def _embed(params: Mapping[str, Any], tokens: jax.Array, positions: jax.Array) -> jax.Array:
    embedded: jax.Array = params["embedding"][tokens] + params["positions"][positions]
    return embedded


def _scales(config: Config) -> jax.Array:
    scale = (config.width // config.heads) ** -0.5 if config.scaled else 1.0
    return jnp.asarray([scale / (at + 1 if config.scaled_by_layer else 1) for at in range(config.layers)])


def _project(
    config: Config, weights: Mapping[str, jax.Array], x: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    y = layer_norm(x, weights["attention_norm"], weights["attention_norm_bias"], config.eps)
    q, k, v = (linear("rlw,whd->rhld", y, weights[name], weights[name + "_bias"]) for name in "qkv")
    return q, k, v


def _finish(config: Config, weights: Mapping[str, jax.Array], x: jax.Array, mixed: jax.Array) -> jax.Array:
    x = x + linear("rhld,hdw->rlw", mixed, weights["out"], weights["out_bias"])
    y = layer_norm(x, weights["mlp_norm"], weights["mlp_norm_bias"], config.eps)
    y = config.activation(linear("rlw,wi->rli", y, weights["expand"], weights["expand_bias"]))
    return x + linear("rli,iw->rlw", y, weights["project"], weights["project_bias"])
