# /// script
# requires-python = ">=3.11"
# dependencies = ["windrow", "transformers==4.57.*", "flax>=0.12", "safetensors"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Flax Llama from transformers 4.57: in chunks, and generating with its cache.

Its attention only takes a padding mask, so rows cannot be packed or hold trees. The cache has one write index
per layer for all rows; :func:`windrow.adapters.cached` gives each row its own cache.
"""

import jax
import jax.numpy as jnp
from transformers import FlaxLlamaForCausalLM

import windrow
from comparison import FOLDER, compare
from windrow.adapters import cached


def language_model(flax: FlaxLlamaForCausalLM) -> windrow.LanguageModel:
    def apply(params, tokens, positions, segment_ids):
        return flax(tokens, jnp.ones_like(tokens), positions, params=params).logits

    def empty(params, length):
        return flax.init_cache(1, length)

    def call(params, cache, tokens, positions, mask):
        length = jax.tree.leaves(cache)[-1].shape[1]
        every_slot = jnp.ones((1, length), jnp.int32)
        output = flax(tokens, every_slot, positions, params=params, past_key_values=cache)
        return output.logits, output.past_key_values

    def rewind(cache, index):
        return jax.tree.map(lambda leaf: index if leaf.ndim == 0 else leaf, cache)

    length = flax.config.max_position_embeddings
    return windrow.LanguageModel(flax.params, apply, length, **cached(empty, call, rewind))


def main() -> None:
    flax = FlaxLlamaForCausalLM.from_pretrained(FOLDER)
    compare(language_model(flax), lambda tokens: flax(tokens).logits)


if __name__ == "__main__":
    main()
