# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["windrow", "easydel==0.3.0", "torch", "pillow"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama of EasyDeL: packed, as prefix trees, in chunks, and generating through its cache.

EasyDeL computes on a mesh of all devices, which windrow takes from the parameters. Its cache has a write
index for each row, so it is a state as it is, fed one token at a time.
"""

import easydel as ed
import jax
import jax.numpy as jnp
from easydel.caching import TransformerCache
from ejkernel.types import MaskInfo

import windrow
from comparison import CONFIG, FOLDER, compare


def load(data: int, tensor: int) -> ed.LlamaForCausalLM:
    """From the checkpoint, over a mesh whose axes are dp, fsdp, ep, tp and sp."""
    llama = ed.AutoEasyDeLModelForCausalLM.from_pretrained(
        str(FOLDER),
        sharding_axis_dims=(data, 1, 1, tensor, 1),
        precision=jax.lax.Precision.HIGHEST,
        config_kwargs={
            "attn_mechanism": "vanilla",
            "attn_dtype": jnp.float32,
            "kvdtype": jnp.float32,
        },
        from_torch=True,
    )
    llama.config.max_position_embeddings = 4096  # packed rows and trees may be longer than a text
    return llama


def language_model(llama: ed.LlamaForCausalLM) -> windrow.LanguageModel:
    graph, params, rest = llama.split_module()

    def run(params, tokens, positions, mask, **cache):
        with llama.mesh:
            merged = llama.merge_module(graph, params, rest)
            return merged(input_ids=tokens, position_ids=positions, mask_info=mask, **cache)

    def apply(params, tokens, positions, segment_ids, reach=None):
        mask = MaskInfo.from_attention_mask(windrow.visible(segment_ids, reach))
        return run(params, tokens, positions, mask).logits

    def init_state(params, rows, length):
        return llama.init_cache(rows, length)

    def step(params, cache, tokens, positions, segment_ids):
        every_slot = jnp.ones(cache.views[0].key.shape[:2], bool)
        causal = MaskInfo.dynamic_init(attention_mask=every_slot).apply_causal()

        def one(cache, column):
            token, position, segment_id = column
            used = cache.views[0].indexs + (segment_id > 0)  # the next token overwrites padding
            output = run(params, token[:, None], position[:, None], causal, past_key_values=cache)
            views = [view.replace(indexs=used) for view in output.past_key_values.views]
            return TransformerCache(views=views), output.logits[:, 0]

        cache, logits = jax.lax.scan(one, cache, (tokens.T, positions.T, segment_ids.T))
        return cache, logits.swapaxes(0, 1)

    return windrow.LanguageModel(
        params, apply, CONFIG.max_position_embeddings, init_state=init_state, step=step
    )


def main() -> None:
    llama = load(2, 2)

    def own(tokens):
        with llama.mesh:
            return llama(input_ids=tokens).logits

    compare(language_model(llama), own)


if __name__ == "__main__":
    main()
