# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "windrow", "maxtext==0.2.5", "aqtp", "cloud-accelerator-diagnostics", "drjax", "flax", "jaxtyping",
#     "jsonlines", "ml-collections", "omegaconf", "optax", "orbax-checkpoint", "pathwaysutils", "pillow",
#     "pydantic", "qwix", "sentencepiece", "sympy", "tensorboardx", "tiktoken", "tokamax", "transformers",
# ]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama from MaxText: packed, in chunks, and generating with its cache.

MaxText's package only lists requirements for TPUs and GPUs; those above suffice for its models on a CPU. Its
attention masks by segment ids, so rows can be packed, but cannot hold trees. During generation, the module
writes to its own variables, one token at a time, with one index for all rows; :func:`windrow.adapters.cached`
gives each row its own cache.
"""

import os

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core.spmd import logical_axis_rules
from maxtext.configs import pyconfig
from maxtext.utils import maxtext_utils, model_creation_utils, sharding

import windrow
from comparison import CONFIG, compare, tensors
from windrow.adapters import cached

AR = "autoregressive"


def configuration(**parallelism):
    return pyconfig.initialize(
        ["", os.path.join(os.path.dirname(pyconfig.__file__), "base.yml")],
        base_emb_dim=CONFIG.hidden_size,
        base_mlp_dim=CONFIG.intermediate_size,
        base_num_decoder_layers=CONFIG.num_hidden_layers,
        base_num_query_heads=CONFIG.num_attention_heads,
        base_num_kv_heads=CONFIG.num_key_value_heads,
        head_dim=CONFIG.head_dim,
        vocab_size=CONFIG.vocab_size,
        normalization_layer_epsilon=CONFIG.rms_norm_eps,
        rope_max_timescale=int(CONFIG.rope_parameters["rope_theta"]),
        max_prefill_predict_length=4,  # the cache for whole prompts is not used
        max_target_length=4 + CONFIG.max_position_embeddings,
        attention="dot_product",
        scan_layers=False,
        dtype="float32",
        matmul_precision="highest",
        hardware="cpu",
        per_device_batch_size=1 / jax.device_count(),  # the cache is for one row
        enable_checkpointing=False,
        skip_jax_distributed_system=True,
        log_config=False,
        run_name="windrow",
        **parallelism,
    )


def load(mode: str, config, mesh) -> nnx.Module:
    """Loads the checkpoint's tensors, split over the mesh by MaxText's own rules."""
    llama = model_creation_utils.from_config(config, mesh=mesh, rngs=nnx.Rngs(0), model_mode=mode)
    nnx.update(llama, stored_params())
    params = nnx.state(llama, nnx.Param)
    with logical_axis_rules(config.logical_axis_rules):
        places = sharding.nnx_construct_named_sharding(params, mesh)
    nnx.update(llama, jax.tree.map(jax.device_put, params, places))
    return llama


def stored_params() -> dict:
    """The checkpoint's tensors as MaxText names and shapes them; its queries are scaled in advance."""
    stored, heads = tensors(), (CONFIG.hidden_size, -1, CONFIG.head_dim)

    def layer(number):
        def one(name):
            return stored[f"model.layers.{number}.{name}.weight"].T

        return {
            "pre_self_attention_layer_norm": {"scale": one("input_layernorm")},
            "post_self_attention_layer_norm": {"scale": one("post_attention_layernorm")},
            "self_attention": {
                "query": {"kernel": one("self_attn.q_proj").reshape(heads) * CONFIG.head_dim**-0.5},
                "key": {"kernel": one("self_attn.k_proj").reshape(heads)},
                "value": {"kernel": one("self_attn.v_proj").reshape(heads)},
                "out": {"kernel": one("self_attn.o_proj").reshape(-1, CONFIG.head_dim, CONFIG.hidden_size)},
            },
            "mlp": {
                "wi_0": {"kernel": one("mlp.gate_proj")},
                "wi_1": {"kernel": one("mlp.up_proj")},
                "wo": {"kernel": one("mlp.down_proj")},
            },
        }

    decoder = {f"layers_{number}": layer(number) for number in range(CONFIG.num_hidden_layers)}
    decoder["decoder_norm"] = {"scale": stored["model.norm.weight"]}
    decoder["logits_dense"] = {"kernel": stored["lm_head.weight"].T}
    return {"decoder": decoder, "token_embedder": {"embedding": stored["model.embed_tokens.weight"]}}


def merged(graph: nnx.GraphDef, *states: nnx.State) -> nnx.Module:
    """The module with copied variables, because it may change them only in the trace that created them."""
    return nnx.merge(graph, *jax.tree.map(lambda leaf: leaf, states))


def language_model(llama: nnx.Module, decoding: nnx.Module) -> windrow.LanguageModel:
    """Makes the model from the modules for training and for decoding, which have the same parameters."""
    graph, params, rest = nnx.split(llama, nnx.Param, ...)
    decoding_graph, _, nothing, other = nnx.split(decoding, nnx.Param, nnx.Cache, ...)

    def apply(params, tokens, positions, segment_ids):
        module = merged(graph, params, rest)
        return module(tokens, positions, segment_ids, enable_dropout=False)

    def empty(params, length):
        return nothing

    def call(params, cache, tokens, positions, mask):
        def one(cache, column):
            token, position = (each[None, None] for each in column)
            module = merged(decoding_graph, params, cache, other)
            logits = module(token, position, enable_dropout=False, model_mode=AR)
            return nnx.state(module, nnx.Cache), logits[0, 0]

        cache, logits = jax.lax.scan(one, cache, (tokens[0], positions[0]))
        return logits[None], cache

    def rewind(cache, index):
        def at(path, leaf):
            name = next(key.key for key in reversed(path) if hasattr(key, "key") and isinstance(key.key, str))
            if name == "cache_ar_segment_id":
                return (jnp.arange(leaf.shape[1]) < index)[None].astype(leaf.dtype)
            return jnp.full_like(leaf, index) if name in ("cache_ar_index", "cached_ar_lengths") else leaf

        return jax.tree_util.tree_map_with_path(at, cache)

    return windrow.LanguageModel(params, apply, CONFIG.max_position_embeddings, **cached(empty, call, rewind))


def made(devices, **parallelism):
    config = configuration(**parallelism)
    mesh = maxtext_utils.get_mesh_from_config(config, devices)
    return load("train", config, mesh), load(AR, config, mesh)


def main() -> None:
    alone = made(jax.devices()[:1])
    on_mesh = made(jax.devices(), ici_fsdp_parallelism=2, ici_tensor_parallelism=2)

    def own(tokens):
        positions = jnp.arange(tokens.shape[1])[None]
        return alone[0](tokens, positions, jnp.ones_like(tokens), enable_dropout=False)

    compare(language_model(*alone), own, language_model(*on_mesh))


if __name__ == "__main__":
    main()
