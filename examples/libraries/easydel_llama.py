# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["windrow", "easydel==0.3.0", "torch", "pillow"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama from EasyDeL: packed, as prefix trees, in chunks, and generating with its cache.

EasyDeL runs on a mesh of all devices, which windrow takes from the parameters. Its cache has a write index
for each row, so its arrays can be used as a state, one token at a time. Its scores equal those of other
libraries only if nothing is rounded to 16 bits, which two settings in ``load`` ensure.
"""

import easydel as ed
import jax
import jax.numpy as jnp
from easydel.caching import TransformerCache
from ejkernel.types import MaskInfo

import windrow
from comparison import CONFIG, FOLDER, compare


def load(data: int = 1, tensor: int = 1) -> ed.LlamaForCausalLM:
    """Loads the checkpoint onto a mesh with the axes dp, fsdp, ep, tp and sp."""
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
        torch_dtype="float32",  # by default, weights pass through float16
    )
    llama.model.frequencies = None  # by default, rotations come from a table in bfloat16
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
        return [(view.key, view.value, view.indexs) for view in llama.init_cache(rows, length).views]

    def step(params, state, tokens, positions, segment_ids):
        rows, length = state[0][0].shape[:2]
        empty = llama.init_cache(rows, length)
        every_slot = MaskInfo.dynamic_init(attention_mask=jnp.ones((rows, length), bool)).apply_causal()

        def one(state, column):
            token, position, segment_id = column
            views = [
                view.replace(key=key, value=value, indexs=used)
                for view, (key, value, used) in zip(empty.views, state, strict=True)
            ]
            cache = TransformerCache(views=views)
            output = run(params, token[:, None], position[:, None], every_slot, past_key_values=cache)
            used = state[0][2] + (segment_id > 0)  # the next token overwrites padding
            filled = [(view.key, view.value, used) for view in output.past_key_values.views]
            return filled, output.logits[:, 0]

        state, logits = jax.lax.scan(one, state, (tokens.T, positions.T, segment_ids.T))
        return state, logits.swapaxes(0, 1)

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
