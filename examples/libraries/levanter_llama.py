# /// script
# requires-python = ">=3.12"
# dependencies = ["windrow", "marin-levanter==0.2.227.dev40316220070"]
#
# [tool.uv]
# prerelease = "if-necessary-or-explicit"
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama from Levanter: packed, as prefix trees, in chunks, and generating with its paged cache.

Levanter's arrays have named axes, and its modules can be used as parameters. Its cache has pages; here, each
row has one page that is long enough for all of its tokens, so the pages are the rows of windrow's state.
"""

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
from haliax.state_dict import from_torch_compatible_state_dict
from levanter.inference.page_table import PageBatchInfo, PageTableSpec
from levanter.layers.attention import AttentionBackend, AttentionMask
from levanter.layers.kv_cache import KvPageCache, ListCache
from levanter.models.llama import LlamaConfig, LlamaLMHeadModel

import windrow
from comparison import CONFIG, compare, mesh, tensors

AXES = {"heads": "tensor", "mlp": "tensor", "vocab": "tensor"}
"""Which of Levanter's axes are split over which axis of the mesh."""


def load() -> LlamaLMHeadModel:
    config = LlamaConfig(
        max_seq_len=CONFIG.max_position_embeddings,
        hidden_dim=CONFIG.hidden_size,
        intermediate_dim=CONFIG.intermediate_size,
        num_layers=CONFIG.num_hidden_layers,
        num_heads=CONFIG.num_attention_heads,
        num_kv_heads=CONFIG.num_key_value_heads,
        layer_norm_epsilon=CONFIG.rms_norm_eps,
        tie_word_embeddings=CONFIG.tie_word_embeddings,
        attn_backend=AttentionBackend.VANILLA,
    )
    llama = LlamaLMHeadModel.init(hax.Axis("vocab", CONFIG.vocab_size), config, key=jax.random.key(0))
    return from_torch_compatible_state_dict(llama, jax.tree.map(jnp.asarray, tensors()))


def language_model(llama: LlamaLMHeadModel) -> windrow.LanguageModel:
    params, rest = eqx.partition(llama, eqx.is_array)

    def apply(params, tokens, positions, segment_ids, reach=None):
        logits = eqx.combine(params, rest)(
            hax.named(tokens, ("batch", "position")),
            attn_mask=hax.named(windrow.visible(segment_ids, reach), ("batch", "position", "key_position")),
            pos_ids=hax.named(positions, ("batch", "position")),
        )
        return logits.rearrange(("batch", "position", "vocab")).array

    def init_state(params, rows, length):
        cache = eqx.combine(params, rest).initial_cache(PageTableSpec(rows, length), dtype=jnp.float32)
        return [layer.kv_pages.array for layer in cache], jnp.zeros(rows, jnp.int32)

    def step(params, state, tokens, positions, segment_ids):
        pages, used = state
        (rows, columns), length = tokens.shape, pages[0].shape[1]
        row, column = jnp.arange(rows, dtype=jnp.int32), jnp.arange(columns, dtype=jnp.int32)
        batch = PageBatchInfo(
            slot_ids=hax.named(row, "seq"),
            page_indices=hax.named(row[:, None], ("seq", "page")),
            seq_lens=hax.named(used + columns, "seq"),
            cu_q_lens=hax.named(jnp.arange(rows + 1, dtype=jnp.int32) * columns, "seq"),
            num_seqs=jnp.int32(rows),
            new_token_dests=hax.named(
                (row[:, None] * length + used[:, None] + column[None]).ravel(), "position"
            ),
            page_size=length,
        )
        axes = ("page", "slot", "kv_head", "head_size")
        cache = ListCache([KvPageCache(hax.named(page, axes)) for page in pages])
        logits, cache = eqx.combine(params, rest).decode(
            hax.named(tokens.ravel(), "position"), cache, batch, hax.named(positions.ravel(), "position")
        )
        used += jnp.sum(segment_ids > 0, axis=1, dtype=jnp.int32)  # the next chunk overwrites padding
        logits = logits.rearrange(("position", "vocab")).array.reshape(rows, columns, -1)
        return ([layer.kv_pages.array for layer in cache], used), logits

    return windrow.LanguageModel(
        params, apply, CONFIG.max_position_embeddings, init_state=init_state, step=step
    )


def main() -> None:
    llama = load()

    def own(tokens):
        named = hax.named(tokens, ("batch", "position"))
        return llama(named, attn_mask=AttentionMask.causal()).rearrange(("batch", "position", "vocab")).array

    compare(language_model(llama), own, language_model(hax.shard(llama, AXES, mesh())))


if __name__ == "__main__":
    main()
