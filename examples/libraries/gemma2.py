# /// script
# requires-python = ">=3.12"
# dependencies = ["windrow", "gemma==4.0.1", "sentencepiece==0.2.1"]  # later ones need protobuf 7
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Gemma from DeepMind's gemma 4.0: packed, as prefix trees, in chunks, and generating with its cache.

Without arguments, the weights are random; ``gemma2.py FOLDER RESULTS.jsonl`` loads a Gemma 2 in the Hugging
Face format. The cache has one write index for all rows; :func:`windrow.adapters.cached` gives each row its
own cache.
"""

import jax
import jax.numpy as jnp
import numpy as np
from gemma import gm

import windrow
from comparison import CONFIG, compare, tensors
from windrow.adapters import cached

STORED = CONFIG.model_type == "gemma2"
LOCAL, GLOBAL = gm.nn.config.AttentionType.LOCAL_SLIDING, gm.nn.config.AttentionType.GLOBAL


def structure() -> gm.nn.Transformer:
    """The checkpoint's structure; sizes that a Llama configuration lacks are small."""
    config = gm.nn.config.TransformerConfig(
        num_embed=CONFIG.vocab_size,
        embed_dim=CONFIG.hidden_size,
        hidden_dim=CONFIG.intermediate_size,
        num_heads=CONFIG.num_attention_heads,
        head_dim=CONFIG.head_dim,
        num_kv_heads=CONFIG.num_key_value_heads,
        final_logit_softcap=getattr(CONFIG, "final_logit_softcapping", 30.0),
        attn_logits_soft_cap=getattr(CONFIG, "attn_logit_softcapping", 50.0),
        sliding_window_size=getattr(CONFIG, "sliding_window", 8),
        attention_types=[(LOCAL, GLOBAL)[layer % 2] for layer in range(CONFIG.num_hidden_layers)],
        use_post_attn_norm=True,
        use_post_ffw_norm=True,
        query_pre_attn_norm=gm.nn.config.QueryPreAttentionNormalisation.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS,
    )
    return gm.nn.Transformer(config=config, dtype=jnp.float32)


def stored_params() -> dict:
    """The checkpoint's tensors as gemma names and shapes them."""
    stored, heads = tensors(), (-1, CONFIG.head_dim, CONFIG.hidden_size)

    def layer(number):
        def one(name):
            return stored[f"model.layers.{number}.{name}.weight"]

        def by_head(name):
            return one(f"self_attn.{name}_proj").reshape(heads).swapaxes(1, 2)

        return {
            "attn": {
                "q_einsum": {"w": by_head("q")},
                "kv_einsum": {"w": np.stack([by_head("k"), by_head("v")])},
                "attn_vec_einsum": {"w": one("self_attn.o_proj").T.reshape(heads)},
            },
            "mlp": {
                "gating_einsum": np.stack([one("mlp.gate_proj").T, one("mlp.up_proj").T]),
                "linear": one("mlp.down_proj").T,
            },
            "pre_attention_norm": {"scale": one("input_layernorm")},
            "post_attention_norm": {"scale": one("post_attention_layernorm")},
            "pre_ffw_norm": {"scale": one("pre_feedforward_layernorm")},
            "post_ffw_norm": {"scale": one("post_feedforward_layernorm")},
        }

    layers = {f"layer_{number}": layer(number) for number in range(CONFIG.num_hidden_layers)}
    embedder = {"input_embedding": stored["model.embed_tokens.weight"]}
    return {**layers, "embedder": embedder, "final_norm": {"scale": stored["model.norm.weight"]}}


def random_params(gemma: gm.nn.Transformer) -> dict:
    """Parameters large enough that texts differ."""
    params = gemma.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    return jax.tree.map(lambda leaf: 20 * leaf, params)


def language_model(gemma: gm.nn.Transformer, params: dict) -> windrow.LanguageModel:
    def run(params, tokens, **options):
        return gemma.apply({"params": params}, tokens, **options)

    def apply(params, tokens, positions, segment_ids, reach=None):
        mask = windrow.visible(segment_ids, reach)
        return run(params, tokens, positions=positions, attention_mask=mask).logits

    def empty(params, length):
        return gemma.config.init_cache(1, jnp.float32, cache_length=length)

    def call(params, cache, tokens, positions, mask):
        length = cache["layer_0"]["k"].shape[1]
        output = run(params, tokens, positions=positions, attention_mask=mask(length), cache=cache)
        return output.logits, output.cache

    def rewind(cache, index):
        return {name: {**layer, "end_index": index[None]} for name, layer in cache.items()}

    return windrow.LanguageModel(params, apply, CONFIG.max_position_embeddings, **cached(empty, call, rewind))


def main() -> None:
    gemma = structure()
    params = jax.tree.map(jnp.asarray, stored_params()) if STORED else random_params(gemma)

    @jax.jit
    def own(tokens):
        """Passes positions and a mask; without them, gemma treats token 0 as padding."""
        length = tokens.shape[1]
        mask = jnp.tril(jnp.ones((1, length, length), bool))
        positions = jnp.arange(length)[None]
        return gemma.apply({"params": params}, tokens, positions=positions, attention_mask=mask).logits

    compare(language_model(gemma, params), own, recorded=STORED)


if __name__ == "__main__":
    main()
