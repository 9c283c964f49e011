# /// script
# requires-python = ">=3.11"
# dependencies = ["windrow", "penzai==0.2.5"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama from penzai: packed, as prefix trees, in chunks, and generating with its cache.

A selector replaces its causal masks with explicit ones, which windrow fills in. The cache has one write index
for all rows; :func:`windrow.adapters.cached` gives each row its own cache.
"""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
from penzai import pz
from penzai.models.transformer.sampling_mode import KVCachingTransformerLM
from penzai.models.transformer.variants.llamalike_common import llamalike_from_huggingface_model

import windrow
from comparison import CONFIG, compare, tensors
from windrow.adapters import cached

NO_TOKEN = -1
"""The id of padding tokens; with this value, penzai treats every token as real, and windrow knows which
are."""


def load() -> pz.nn.Layer:
    """Loads the checkpoint's tensors; penzai's converter only reads these attributes of a torch model."""
    config = SimpleNamespace(**vars(CONFIG), rope_theta=CONFIG.rope_parameters["rope_theta"])
    arrays = {name: jnp.asarray(tensor) for name, tensor in tensors().items()}
    stored = SimpleNamespace(config=config, dtype="torch.float32", state_dict=lambda: arrays)
    return llamalike_from_huggingface_model(stored)


def explicit(causal: pz.nn.ApplyCausalAttentionMask) -> pz.nn.ApplyExplicitAttentionMask:
    return pz.nn.ApplyExplicitAttentionMask("mask", causal.masked_out_value)


def language_model(llama: pz.nn.Layer) -> windrow.LanguageModel:
    causal, params = pz.unbind_params(llama, freeze=True)
    masked = pz.select(causal).at_instances_of(pz.nn.ApplyCausalAttentionMask).apply(explicit)

    def apply(params, tokens, positions, segment_ids, reach=None):
        logits = pz.bind_variables(masked, params)(
            pz.nx.wrap(tokens, "batch", "seq"),
            token_positions=pz.nx.wrap(positions, "batch", "seq"),
            mask=pz.nx.wrap(windrow.visible(segment_ids, reach), "batch", "seq", "kv_seq"),
        )
        return logits.unwrap("batch", "seq", "vocabulary")

    def caching(params, length):
        """The model with a cache, as a function of the cache, and its empty cache."""
        model = pz.bind_variables(causal, params)
        model = KVCachingTransformerLM.from_uncached(model, length, {"batch": 1}, pad_id=NO_TOKEN)
        return pz.unbind_state_vars(model, freeze=True)

    def empty(params, length):
        return caching(params, length)[1]

    def call(params, cache, tokens, positions, mask):
        model, _ = caching(params, tokens_of(cache).named_shape["seq"])
        logits, changed = model.stateless_call(cache, pz.nx.wrap(tokens, "batch", "seq"))
        logits = logits.unwrap("batch", "seq", "vocabulary")
        return logits, pz.nx.order_like(changed, cache)

    def rewind(cache, index):
        return tuple(
            replace(part, value=index) if part.label == "sampler/cache_end_index" else part for part in cache
        )

    return windrow.LanguageModel(params, apply, CONFIG.max_position_embeddings, **cached(empty, call, rewind))


def tokens_of(cache):
    return next(part.value for part in cache if part.label == "sampler/previous_tokens")


def main() -> None:
    llama = load()

    def own(tokens):
        return llama(pz.nx.wrap(tokens, "batch", "seq")).unwrap("batch", "seq", "vocabulary")

    compare(language_model(llama), own)


if __name__ == "__main__":
    main()
