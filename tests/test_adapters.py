"""Modules and caches in the style of other libraries keep their results in whole rows, chunks and trees."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import windrow
from cached_model import WIDTH, attend, cached_model, embed
from windrow import BatchPolicy, adapters, check_model, visible

VOCAB, MOST = 61, 48
PAIRS = [
    ("Make hay while ", "the sun shines."),
    ("Make hay while ", "you can."),
    ("Still waters ", "run deep."),
]
pytestmark = pytest.mark.filterwarnings("ignore:tokenizer 'Letters' encodes in Python")


class Letters:
    encode = staticmethod(lambda text: [ord(letter) % VOCAB for letter in text])
    decode = staticmethod(lambda tokens: "".join(chr(token + VOCAB) for token in tokens))


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("data",))


def score(model, **options):
    return windrow.score(model, Letters(), PAIRS, sharding=one_device(), **options).log_likelihoods


def generate(model, **options):
    prompts = [context for context, _ in PAIRS]
    options = {"max_new_tokens": 9, "end_tokens": (), "sharding": one_device(), **options}
    return windrow.generate(model, Letters(), prompts, **options).texts


def test_masks_of_packed_rows_and_trees():
    ids = jnp.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    positions = jnp.array([[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(adapters.causal_mask(positions, ids)[:, 0], visible(ids))
    reach, depths = jnp.array([[6, 6, 4, 4, 6, 6]]), jnp.array([[0, 1, 2, 3, 2, 3]])
    np.testing.assert_array_equal(adapters.causal_mask(depths, ids[1:], reach)[:, 0], visible(ids[1:], reach))


def empty(params, length):
    nothing = jnp.zeros((1, length, WIDTH))
    return {"keys": nothing, "values": nothing, "index": jnp.int32(0)}


def call(params, cache, tokens, positions, mask):
    """As in those libraries, all rows are written at one index, which advances by the number of columns."""
    x, at = embed(params, tokens, positions), (0, cache["index"], 0)
    keys = jax.lax.dynamic_update_slice(cache["keys"], x @ params["key"], at)
    values = jax.lax.dynamic_update_slice(cache["values"], x @ params["value"], at)
    logits = attend(params, x, keys, values, mask(keys.shape[1]))
    return logits, {"keys": keys, "values": values, "index": cache["index"] + tokens.shape[1]}


def rewind(cache, index):
    return {**cache, "index": index}


@pytest.mark.exhaustive
def test_cache_with_one_write_index():
    parts = adapters.cached(empty, call, rewind)
    model = replace(cached_model(VOCAB, MOST), **parts)
    found = check_model(model, sharding=one_device())
    assert not found.failed, found
    whole = score(model)
    for chunk_length in (7, 16, 48):
        np.testing.assert_allclose(score(model, chunk_length=chunk_length), whole, atol=1e-4)
    anew = replace(model, init_state=None, step=None)
    texts = [generate(anew), generate(model), generate(model, chunk_length=7)]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.exhaustive
def test_nnx_module_that_writes_variables():
    nnx = pytest.importorskip("flax.nnx")

    class Count(nnx.Variable):
        pass

    class Module(nnx.Module):
        def __init__(self, rngs):
            self.embedding = nnx.Embed(VOCAB, WIDTH, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, WIDTH, decode=False, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(WIDTH, VOCAB, rngs=rngs)
            self.calls = Count(jnp.int32(0))

        def __call__(self, ids, positions, mask):
            self.calls[...] += 1
            x = self.embedding(ids) + jnp.sin(positions.astype(jnp.float32))[:, :, None]
            return self.head(self.dropout(x + self.attention(x, mask=mask)))

    module = Module(nnx.Rngs(0))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = adapters.from_nnx(module, max_length=MOST)
        found = check_model(model, policy=BatchPolicy(share="trees"), sharding=one_device())
        assert not found.failed, found
        trees = score(model, policy=BatchPolicy(share="trees"))
        np.testing.assert_allclose(trees, score(model, policy=BatchPolicy(share=False)), atol=1e-4)
        windrow.generate(model, Letters(), ["Make hay"], max_new_tokens=5, sharding=one_device())
        module_in_use = module.dropout.deterministic, int(module.calls[...])
        module.eval()
        tokens = jnp.array([Letters.encode(PAIRS[0][0])])
        positions = jnp.arange(tokens.shape[1])[None]
        expected = module(tokens, positions, visible(jnp.ones_like(tokens))[:, None])
        given = model.apply(model.params, tokens, positions, jnp.ones_like(tokens))
    assert module_in_use == (False, 0)
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_linen_module():
    linen = pytest.importorskip("flax.linen")

    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Module(linen.Module):
        @linen.compact
        def __call__(self, tokens):
            return Output(linen.Dense(VOCAB)(linen.Embed(VOCAB, WIDTH)(tokens)))

    module, tokens = Module(), jnp.array([[3, 1, 4, 1, 5]])
    variables = module.init(jax.random.key(0), tokens)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = adapters.from_linen(module, variables, max_length=MOST)
        assert not model.takes_reach
        assert check_model(model, sharding=one_device()).passed
        given = model.apply(variables, tokens, tokens, jnp.ones_like(tokens))
        np.testing.assert_allclose(given, module.apply(variables, tokens).logits, atol=1e-6)


def test_equinox_module():
    eqx = pytest.importorskip("equinox")

    class Module(eqx.Module):
        embedding: eqx.nn.Embedding
        attention: eqx.nn.MultiheadAttention
        dropout: eqx.nn.Dropout
        head: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.embedding = eqx.nn.Embedding(VOCAB, WIDTH, key=keys[0])
            self.attention = eqx.nn.MultiheadAttention(2, WIDTH, key=keys[1])
            self.dropout = eqx.nn.Dropout(0.5)
            self.head = eqx.nn.Linear(WIDTH, VOCAB, key=keys[2])

        def __call__(self, tokens, mask):
            x = jax.vmap(self.embedding)(tokens)
            x = self.dropout(x + self.attention(x, x, x, mask=mask))
            return jax.vmap(self.head)(x)

    module, tokens = Module(jax.random.key(1)), jnp.array([[3, 1, 4, 1, 5]])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = adapters.from_equinox(module, max_length=MOST)
        found = check_model(model, sharding=one_device())
        assert not found.failed, found
        given = model.apply(model.params, tokens, jnp.arange(5)[None], jnp.ones_like(tokens))[0]
        alone = eqx.nn.inference_mode(module)(tokens[0], jnp.tril(jnp.ones((5, 5), bool)))
    np.testing.assert_allclose(given, alone, atol=1e-5)
