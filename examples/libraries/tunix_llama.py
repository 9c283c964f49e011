# /// script
# requires-python = ">=3.11"
# dependencies = ["windrow", "google-tunix==0.1.7"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""A Llama of tunix: scored as prefix trees, read in chunks, and generating, with the library's own numbers.

The forward pass takes one line. The cache has one write index for all rows, which
:func:`windrow.adapters.cached` turns into a state: a function each for an empty cache, a call, and the index.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tunix.models.llama3.model import Llama3, ModelConfig

import windrow
from windrow.adapters import cached

CONFIG = ModelConfig(
    num_layers=2, vocab_size=256, embed_dim=32, hidden_dim=64, num_heads=4, head_dim=8, num_kv_heads=2,
    rope_theta=10_000, norm_eps=1e-5,
)  # fmt: skip
MAX_LENGTH = 96
PAIRS = [
    ("Make hay while", " the sun shines."),
    ("Make hay while", " you can."),
    ("Still waters", " run deep."),
]


class Bytes:
    """Bytes as tokens."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(tokens).decode(errors="replace")


def random_llama():
    """Its structure and parameters; tunix itself begins with zeros, to be filled from a checkpoint."""
    graph, params = nnx.split(Llama3(CONFIG, rngs=nnx.Rngs(0)))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [
        leaf if leaf.ndim == 1 else jax.random.normal(key, leaf.shape, leaf.dtype) * 0.2
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return graph, jax.tree.unflatten(structure, drawn)


def language_model(graph, params) -> windrow.LanguageModel:
    def apply(params, tokens, positions, segment_ids, reach=None):
        return nnx.merge(graph, params)(tokens, positions, None, windrow.visible(segment_ids, reach))[0]

    def empty(params, length):
        nothing = jnp.zeros((1, length, CONFIG.num_kv_heads, CONFIG.head_dim))
        layer = {"k": nothing, "v": nothing, "end_index": jnp.zeros(1, jnp.int32)}
        return {f"layer_{number}": layer for number in range(CONFIG.num_layers)}

    def call(params, cache, tokens, positions, mask):
        length = cache["layer_0"]["k"].shape[1]
        return nnx.merge(graph, params)(tokens, positions, cache, mask(length))

    def rewind(cache, index):
        return {name: {**layer, "end_index": index[None]} for name, layer in cache.items()}

    return windrow.LanguageModel(params, apply, MAX_LENGTH, **cached(empty, call, rewind))


def own_score(graph, params, context, continuation):
    """The library's forward pass over one text, and nothing else."""
    tokens = jnp.array([Bytes().encode(context + continuation)])
    length = tokens.shape[1]
    mask = jnp.tril(jnp.ones((1, length, length), bool))
    logits, _ = nnx.merge(graph, params)(tokens, jnp.arange(length)[None], None, mask)
    logprobs = jax.nn.log_softmax(logits[0])
    return sum(float(logprobs[at - 1, tokens[0, at]]) for at in range(len(context), length))


def main() -> None:
    graph, params = random_llama()
    model = language_model(graph, params)
    checks = windrow.check_model(model)
    print(checks)
    assert not checks.failed

    own = np.array([own_score(graph, params, *pair) for pair in PAIRS])
    for how, options in {
        "as they are": {"policy": windrow.BatchPolicy(share=False, pack=False)},
        "packed": {"policy": windrow.BatchPolicy(pack=True, share=False)},
        "as trees": {"policy": windrow.BatchPolicy(share="trees")},
        "in chunks": {"chunk_length": 7},
    }.items():
        scores = windrow.score(model, Bytes(), PAIRS, **options).log_likelihoods
        difference = np.abs(scores - own).max()
        print(f"{how:12} {difference:.1e} nats from tunix's own forward pass")
        assert difference < 1e-3

    prompts = [context for context, _ in PAIRS]
    texts = windrow.generate(model, Bytes(), prompts, max_new_tokens=8, end_tokens=()).tokens
    anew = windrow.LanguageModel(params, model.apply, MAX_LENGTH)
    same = windrow.generate(anew, Bytes(), prompts, max_new_tokens=8, end_tokens=()).tokens
    assert (texts == same).all()
    print(f"{len(texts)} tokens generated, the same as without a cache")


if __name__ == "__main__":
    main()
