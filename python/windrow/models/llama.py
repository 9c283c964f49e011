"""The Llama family: Llama (SmolLM too), Mistral, Qwen2 and Qwen3.

One computation with switches: biases of the attention's projections (Qwen2),
a norm on each head's queries and keys (Qwen3), a window beyond which a token
sees nothing (Mistral, some layers of Qwen). Sources: Touvron et al., LLaMA,
2023; Jiang et al., Mistral 7B, 2023; the Qwen2 and Qwen3 reports, 2024 and 2025;
field names and defaults as in the Hugging Face configurations.

    x = embedding[token]
    each layer:  x = x + attention(norm(x))
                 x = x + down(silu(gate(norm(x))) * up(norm(x)))
    logits = head(norm(x))

Parameters: ``embedding [vocab, width]``, ``layers`` (every leaf with a leading
layer axis), ``norm [width]`` and, unless tied to the embedding, ``head [vocab, width]``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.models import rotary
from windrow.models.attention import Cache, Sight, attend, empty_cache, remember
from windrow.models.config import WAY_OUT, Fields
from windrow.models.layers import ACTIVATIONS, contract, linear, rms_norm
from windrow.models.parameters import Leaf

PREFIX = "model."
IGNORED = (".rotary_emb.inv_freq",)  # old checkpoints hold it; it is computed here

_EVERYTHING = 2**30
_WINDOW = 4096  # where the file says that there is one, or is Mistral's, but not how wide it is


@dataclass(frozen=True)
class Config:
    """What the computation depends on. Sizes are counts; ``windows`` has a number of positions per layer."""

    vocab: int
    width: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    inner: int
    activation: Callable[[jax.Array], jax.Array]
    eps: float
    frequencies: tuple[float, ...]
    windows: tuple[int, ...] | None
    bias_qkv: bool
    bias_out: bool
    bias_mlp: bool
    norm_heads: bool
    tied: bool


def read_config(fields: Fields) -> Config:
    """The configuration of any member of the family."""
    kind = fields.take("model_type")
    width, heads, layers = (
        fields.size(name) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    head_dim = fields.size("head_dim", max(width // heads, 1))
    key_heads = fields.size("num_key_value_heads", heads)
    if heads % key_heads or head_dim % 2:
        raise ValueError(
            f"{fields.path}: num_attention_heads ({heads}) must be a multiple of num_key_value_heads "
            f"({key_heads}), and head_dim ({head_dim}) even"
        )
    fields.choice("is_causal", (True,), True)
    bias = fields.flag("attention_bias", False) if kind in ("llama", "qwen3") else False
    return Config(
        vocab=fields.size("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        head_dim=head_dim,
        inner=fields.size("intermediate_size"),
        activation=ACTIVATIONS[fields.choice("hidden_act", ACTIVATIONS, "silu")],
        eps=fields.number("rms_norm_eps", 1e-6),
        frequencies=rotary.read_frequencies(fields, head_dim),
        windows=None if kind == "llama" else _read_windows(fields, kind, layers),
        bias_qkv=bias or kind == "qwen2",
        bias_out=bias,
        bias_mlp=fields.flag("mlp_bias", False) if kind == "llama" else False,
        norm_heads=kind == "qwen3",
        tied=fields.flag("tie_word_embeddings", False),
    )


def leaves(config: Config) -> dict[str, Any]:
    """Where each parameter is stored, how it is shaped and what may be divided."""
    c = config
    width, inner = (c.width,), (c.inner,)
    at = PREFIX + "layers.{layer}."
    attention, mlp = at + "self_attn.", at + "mlp."
    layers = {
        "attention_norm": Leaf(at + "input_layernorm.weight", (width,)),
        "out": Leaf(attention + "o_proj.weight", (width, (c.heads, c.head_dim)), split=1),
        "mlp_norm": Leaf(at + "post_attention_layernorm.weight", (width,)),
        "gate": Leaf(mlp + "gate_proj.weight", (inner, width), split=0),
        "up": Leaf(mlp + "up_proj.weight", (inner, width), split=0),
        "down": Leaf(mlp + "down_proj.weight", (width, inner), split=1),
    }
    for name, heads in (("q", c.heads), ("k", c.key_heads), ("v", c.key_heads)):
        layers[name] = Leaf(f"{attention}{name}_proj.weight", ((heads, c.head_dim), width), split=0)
        if c.bias_qkv:
            layers[name + "_bias"] = Leaf(f"{attention}{name}_proj.bias", ((heads, 1, c.head_dim),), split=0)
        if c.norm_heads and name != "v":
            layers[name + "_norm"] = Leaf(f"{attention}{name}_norm.weight", ((c.head_dim,),))
    if c.bias_out:
        layers["out_bias"] = Leaf(attention + "o_proj.bias", (width,))
    if c.bias_mlp:
        layers["gate_bias"] = Leaf(mlp + "gate_proj.bias", (inner,), split=0)
        layers["up_bias"] = Leaf(mlp + "up_proj.bias", (inner,), split=0)
        layers["down_bias"] = Leaf(mlp + "down_proj.bias", (width,))
    tree: dict[str, Any] = {
        "embedding": Leaf(PREFIX + "embed_tokens.weight", ((c.vocab,), width), split=0),
        "layers": layers,
        "norm": Leaf(PREFIX + "norm.weight", (width,)),
    }
    if not c.tied:
        tree["head"] = Leaf("lm_head.weight", ((c.vocab,), width), split=0)
    return tree


def language_model(config: Config, params: Mapping[str, Any], max_length: int) -> LanguageModel:
    """The family's functions for one configuration."""
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
    turn, sight = rotary.rotation(config.frequencies, positions), Sight(positions, segment_ids, reach)

    def layer(x: jax.Array, scanned: tuple[Any, Any]) -> tuple[jax.Array, None]:
        weights, window = scanned
        q, k, v = _project(config, weights, x, turn)
        mixed = attend(q, k, v, sight, scale=config.head_dim**-0.5, window=window)
        return _finish(config, weights, x, mixed), None

    x, _ = jax.lax.scan(layer, params["embedding"][tokens], (params["layers"], _windows(config)))
    return rms_norm(x, params["norm"], config.eps)


def head(params: Mapping[str, Any], picked: jax.Array) -> jax.Array:
    """Logits, ``float32[..., vocab]``, for ``[..., width]``."""
    return contract("...w,vw->...v", picked, params.get("head", params["embedding"]))


def init_state(
    config: Config, max_length: int, params: Mapping[str, Any], rows: int, length: int | None = None
) -> Cache:
    """An empty cache of ``length`` positions for each row; ``max_length`` by default."""
    slots = max_length if length is None else length
    dtype = params["embedding"].dtype
    return empty_cache(rows, config.layers, config.key_heads, slots, config.head_dim, dtype)


def step(
    config: Config,
    params: Mapping[str, Any],
    state: Cache,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
) -> tuple[Cache, jax.Array]:
    """The cache after these tokens, and what the head takes for them."""
    turn, sight = rotary.rotation(config.frequencies, positions), Sight(positions, segment_ids)

    def layer(
        x: jax.Array, scanned: tuple[Any, Any, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        weights, window, at = scanned
        q, k, v = _project(config, weights, x, turn)
        cached = state.layer(at)
        mixed = attend(q, k, v, sight, scale=config.head_dim**-0.5, window=window, cached=cached)
        return _finish(config, weights, x, mixed), (k, v)

    scanned = (params["layers"], _windows(config), jnp.arange(config.layers))
    x, (keys, values) = jax.lax.scan(layer, params["embedding"][tokens], scanned)
    return remember(state, keys, values, positions, segment_ids), rms_norm(x, params["norm"], config.eps)


def _project(
    config: Config, weights: Mapping[str, jax.Array], x: jax.Array, turn: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    y = rms_norm(x, weights["attention_norm"], config.eps)
    q, k, v = (linear("rlw,hdw->rhld", y, weights[name], weights.get(name + "_bias")) for name in "qkv")
    if config.norm_heads:
        q, k = rms_norm(q, weights["q_norm"], config.eps), rms_norm(k, weights["k_norm"], config.eps)
    return rotary.rotate(q, turn), rotary.rotate(k, turn), v


def _finish(config: Config, weights: Mapping[str, jax.Array], x: jax.Array, mixed: jax.Array) -> jax.Array:
    x = x + linear("rhld,whd->rlw", mixed, weights["out"], weights.get("out_bias"))
    y = rms_norm(x, weights["mlp_norm"], config.eps)
    gate, up = (
        linear("rlw,iw->rli", y, weights[name], weights.get(name + "_bias")) for name in ("gate", "up")
    )
    return x + linear("rli,wi->rlw", config.activation(gate) * up, weights["down"], weights.get("down_bias"))


def _windows(config: Config) -> jax.Array | None:
    return None if config.windows is None else jnp.asarray(config.windows, jnp.int32)


def _read_windows(fields: Fields, kind: str, layers: int) -> tuple[int, ...] | None:
    """How far each layer sees: in Mistral all alike, in Qwen those it names, if any."""
    used, first = True, 0
    if kind != "mistral":
        used = fields.flag("use_sliding_window", False)
        first = fields.size("max_window_layers", 28, least=0)
    window = fields.take("sliding_window", None) if "sliding_window" in fields else _WINDOW
    used = used and window is not None
    window = fields.size("sliding_window", window) if used else _EVERYTHING
    sliding = [used and at >= first for at in range(layers)]
    if (kinds := fields.take("layer_types", None)) is not None:
        sliding = _read_kinds(fields, kinds, layers)
    if any(sliding) and not used:
        raise ValueError(
            f"{fields.path}: 'layer_types' has sliding_attention, but no 'sliding_window' is in use"
        )
    return tuple(window if each else _EVERYTHING for each in sliding) if any(sliding) else None


def _read_kinds(fields: Fields, kinds: Any, layers: int) -> list[bool]:
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise ValueError(
            f"{fields.path}: 'layer_types' must list a kind for each of {layers} layers, not {kinds!r}"
        )
    for each in kinds:
        if each not in ("full_attention", "sliding_attention"):
            known = "full_attention, sliding_attention"
            raise ValueError(f"{fields.path}: 'layer_types' has {each!r}; known: {known}. Else {WAY_OUT}")
    return [each == "sliding_attention" for each in kinds]
