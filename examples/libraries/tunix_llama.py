# /// script
# requires-python = ">=3.11"
# dependencies = ["windrow", "google-tunix==0.1.7"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama from tunix: packed, as prefix trees, in chunks, and generating with its cache.

The forward pass takes one line. The cache has one write index for all rows; :func:`windrow.adapters.cached`
gives each row its own cache, given functions that create an empty cache, call the model, and set the index.

tunix 0.1.7 always uses a ``rope_theta`` of 1,000,000, regardless of the configuration, so the results
recorded for the checkpoint do not apply.
"""

import jax.numpy as jnp
from flax import nnx
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.models.llama3.params import create_model_from_safe_tensors

import windrow
from comparison import CONFIG, FOLDER, compare
from windrow.adapters import cached


def load() -> Llama3:
    config = ModelConfig(
        num_layers=CONFIG.num_hidden_layers,
        vocab_size=CONFIG.vocab_size,
        embed_dim=CONFIG.hidden_size,
        hidden_dim=CONFIG.intermediate_size,
        num_heads=CONFIG.num_attention_heads,
        head_dim=CONFIG.head_dim,
        num_kv_heads=CONFIG.num_key_value_heads,
        rope_theta=int(CONFIG.rope_parameters["rope_theta"]),
        norm_eps=CONFIG.rms_norm_eps,
    )
    return create_model_from_safe_tensors(str(FOLDER), config, dtype=jnp.float32)


def language_model(llama: Llama3) -> windrow.LanguageModel:
    graph, params = nnx.split(llama)

    def apply(params, tokens, positions, segment_ids, reach=None):
        return nnx.merge(graph, params)(tokens, positions, None, windrow.visible(segment_ids, reach))[0]

    def empty(params, length):
        nothing = jnp.zeros((1, length, CONFIG.num_key_value_heads, CONFIG.head_dim))
        layer = {"k": nothing, "v": nothing, "end_index": jnp.zeros(1, jnp.int32)}
        return {f"layer_{number}": layer for number in range(CONFIG.num_hidden_layers)}

    def call(params, cache, tokens, positions, mask):
        length = cache["layer_0"]["k"].shape[1]
        return nnx.merge(graph, params)(tokens, positions, cache, mask(length))

    def rewind(cache, index):
        return {name: {**layer, "end_index": index[None]} for name, layer in cache.items()}

    return windrow.LanguageModel(params, apply, CONFIG.max_position_embeddings, **cached(empty, call, rewind))


def main() -> None:
    llama = load()

    def own(tokens):
        length = tokens.shape[1]
        mask = jnp.tril(jnp.ones((1, length, length), bool))
        return llama(tokens, jnp.arange(length)[None], None, mask)[0]

    compare(language_model(llama), own, recorded=False)


if __name__ == "__main__":
    main()
