"""``check_model`` finds each kind of fault, and none in a correct model."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import cached_model
from bundled_models import NAMES, VOCAB, bundled
from cached_model import WIDTH, attend, embed, step
from exhaustive import quick
from test_faults import NamedArray, Output
from windrow import BatchPolicy, LanguageModel, check_model, visible


def checked(model, policy=None):
    return check_model(model, policy=policy, sharding=Mesh(np.array(jax.devices()[:1]), ("data",)))


def sound(**parts):
    return cached_model.cached_model(VOCAB, 48, **parts)


def with_mask(mask_of, place_of=lambda positions: positions):
    def apply(params, tokens, positions, segment_ids, reach=None):
        x = embed(params, tokens, place_of(positions))
        mask = mask_of(segment_ids, reach)
        return attend(params, x, x @ params["key"], x @ params["value"], mask)

    return sound(apply=apply)


def changed_step(change):
    """The model's step, with arguments changed by ``change``."""
    return sound(step=lambda params, state, *batch: step(params, *change(state, *batch)))


def shared_index(state, tokens, positions, segment_ids):
    """All rows write at the index of the first one."""
    return state, tokens, jnp.broadcast_to(positions[:1], positions.shape), segment_ids


def dropped(params, tokens, positions, segment_ids, reach=None):
    logits = cached_model.apply(params, tokens, positions, segment_ids, reach)
    kept = jax.random.bernoulli(jax.random.key(0), 0.9, logits.shape)
    return jnp.where(kept, logits / 0.9, 0)


def short_cache(params, rows, length):
    nothing = jnp.zeros((rows, max(8, length - 8), WIDTH))
    return {"keys": nothing, "values": nothing}


def mixed_rows(params, state, *batch):
    state, logits = step(params, state, *batch)
    return jax.tree.map(lambda leaf: leaf[::-1], state), logits


def narrow_state(params, state, *batch):
    state, logits = step(params, state, *batch)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state), logits


def cut_table(params, tokens, *batch, reach=None):
    return cached_model.apply(params, jnp.minimum(tokens, VOCAB * 3 // 4), *batch, reach)


def empty_softmax(params, tokens, positions, segment_ids, reach=None):
    real = (segment_ids > 0)[:, :, None]
    return jnp.where(real, cached_model.apply(params, tokens, positions, segment_ids, reach), jnp.nan)


def probabilities(params, *batch, reach=None):
    return jax.nn.softmax(4 * cached_model.apply(params, *batch, reach))


def in_row_order(positions):
    return jnp.broadcast_to(jnp.arange(positions.shape[1], dtype=jnp.int32), positions.shape)


def heads_in_another_order(params, state, *batch):
    state, logits = step(params, state, *batch)
    return {name: jnp.roll(leaf, WIDTH // 2, axis=2) for name, leaf in state.items()}, logits


FAULTS = {
    "ignored segment ids": (with_mask(lambda ids, reach: visible(jnp.ones_like(ids), reach)), "packed rows"),
    "clamped cache": (sound(init_state=short_cache), "step in chunks"),
    "shared write index": (changed_step(shared_index), "state rows"),
    "dropout": (sound(apply=dropped), "same twice"),
    "look-ahead": (with_mask(lambda ids, reach: visible(ids, reach) | visible(ids).swapaxes(1, 2)), "causal"),
    "row-index positions": (with_mask(visible, in_row_order), "tree rows"),
    "state rows mixed": (sound(step=mixed_rows), "state rows"),
    "wrong dtype": (sound(step=narrow_state), "contract"),
    "short table of positions": (
        with_mask(visible, lambda positions: jnp.minimum(positions, 40)),
        "positions",
    ),
    "vocabulary cut": (sound(apply=cut_table), "vocabulary"),
    "NaN in filler": (sound(apply=empty_softmax), "padding"),
    "order of heads": (sound(step=heads_in_another_order), "step in chunks"),
    "probabilities": (sound(apply=probabilities), "logits"),
    "reach ignored": (with_mask(lambda ids, reach: visible(ids)), "tree rows"),
}


@pytest.mark.filterwarnings("ignore:apply draws random numbers")  # dropout
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    model, name = FAULTS[fault]
    found = checked(model)
    assert not found.passed or fault == "ignored segment ids"
    assert found[name] in found.failed, found
    assert len(found[name].message) > 20
    assert name in repr(found).splitlines()[0]


def test_correct_model_passes_all_checks():
    found = checked(sound())
    assert found.passed
    assert not found.failed, found
    assert [check.status for check in found] == ["passed", "passed", "not offered", *["passed"] * 9]
    assert max(check.difference for check in found if check.difference is not None) < 1e-4


@pytest.mark.parametrize("name", quick(NAMES, ["llama, biases"]))
def test_bundled_models_pass(name, tmp_path):
    found = checked(bundled(name, tmp_path))
    assert not found.failed, found
    assert found["step in chunks"].status == found["state rows"].status == "passed"


def test_split_model_on_a_mesh():
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    model = sound()
    split = {
        name: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(None, "tensor")))
        for name, leaf in model.params.items()
        if name != "head"
    }
    split["head"] = jax.device_put(model.params["head"], NamedSharding(mesh, PartitionSpec()))
    policy = BatchPolicy(padding_multiple=32, pack=True)
    found = check_model(LanguageModel(split, *parts_of(model)), policy=policy)
    assert not found.failed, found


def test_swapped_heads_in_a_sharded_cache():
    """The two devices with a row's heads swap them after each step."""
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    heads = PartitionSpec("data", None, "tensor")

    def swapped(leaf):
        return jax.lax.ppermute(leaf, "tensor", [(0, 1), (1, 0)])

    def swapping(params, state, *batch):
        state, logits = step(params, state, *batch)
        return jax.tree.map(jax.shard_map(swapped, mesh=mesh, in_specs=heads, out_specs=heads), state), logits

    rows = NamedSharding(mesh, PartitionSpec("data"))
    assert not check_model(sound(), sharding=rows).failed
    found = check_model(sound(step=swapping), sharding=rows)
    assert {check.name for check in found.failed} == {"step in chunks", "state rows"}, found


def parts_of(model):
    return model.apply, model.max_length, None, None, model.init_state, model.step


@pytest.mark.exhaustive
def test_example_models_pass(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "examples"))
    key, tokenizer = jax.random.key(0), import_module("sayings").byte_tokenizer()
    plain, recurrent, sharded = map(import_module, ("plain_jax", "recurrent", "sharded"))
    table = jax.random.normal(key, (import_module("sayings").VOCABULARY,) * 2)
    models = {
        "grain_batches": LanguageModel(table, lambda table, tokens, *_: table[tokens]),
        "plain_jax": LanguageModel(plain.count(tokenizer), plain.apply),
        "recurrent": LanguageModel(
            recurrent.init(key), recurrent.apply, init_state=recurrent.init_state, step=recurrent.step
        ),
        "sharded": LanguageModel(sharded.init(key), sharded.apply, hidden=sharded.hidden, head=sharded.head),
    }
    nnx = pytest.importorskip("flax.nnx")
    with_flax = import_module("flax_nnx")
    models["flax_nnx"] = with_flax.language_model(with_flax.Transformer(nnx.Rngs(0)))
    linen = import_module("flax_linen").Transformer()
    params = jax.jit(linen.init)(key, *jnp.ones((3, 1, 8), jnp.int32))
    models["flax_linen"] = LanguageModel(params, linen.apply)
    pytest.importorskip("equinox")
    with_equinox = import_module("equinox_model")
    models["equinox_model"] = with_equinox.language_model(with_equinox.Transformer(key))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = {name: checked(model) for name, model in models.items()}
    assert all(each.passed for each in found.values()), found


MISTAKES = {
    "a tuple": (lambda logits: (logits, None), "a tuple of 2; return the logits alone, ["),
    "a dict": (lambda logits: {"logits": logits}, "a dict with 'logits'; return the logits alone, ["),
    "an output": (Output, "an Output; return the logits alone (its .logits), ["),
    "a named array": (NamedArray, "a NamedArray; return the logits alone (its .array), ["),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_table_shows_what_apply_returned(mistake):
    output, message = MISTAKES[mistake]
    model = sound()
    found = checked(replace(model, apply=lambda *given: output(model.apply(*given))))
    assert [check.name for check in found] == ["contract"]
    assert f"apply returned {message}" in found["contract"].message


def test_table_explains_module_apply_and_leaves_that_are_not_arrays():
    linen = pytest.importorskip("flax.linen")
    module = linen.Embed(VOCAB, VOCAB)
    params = module.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    found = checked(LanguageModel(params, module.apply))
    called = "apply is called as apply(params, tokens, positions, segment_ids), which failed: "
    assert called in found["contract"].message
    for leaf, shown in ((jax.nn.relu, "the function relu"), ("tiny", "a str"), (object(), "an object")):
        model = sound()
        found = checked(replace(model, params={**model.params, "extra": leaf}))
        assert f"params['extra'] is {shown}; params must contain only arrays" in found["contract"].message


def test_a_function_that_fails_on_the_rows_of_the_check():
    def apply(params, tokens, *_):
        assert tokens.shape[1] < 16
        return params[tokens]

    found = checked(LanguageModel(jnp.zeros((VOCAB, VOCAB)), apply, max_length=48))
    assert [check.name for check in found] == ["contract"]
    assert found["contract"].message.endswith("on tokens of shape [6, 48]; max_length is 48")


def test_packed_rows_must_pass_if_the_policy_packs():
    model, _ = FAULTS["ignored segment ids"]
    assert checked(model).passed
    assert not checked(model, BatchPolicy(pack=True)).passed


def test_table_is_displayed():
    found = checked(FAULTS["look-ahead"][0])
    lines = repr(found).splitlines()
    assert lines[0].startswith("check_model: failed: causal")
    assert len(lines) == 2 + len(found.checks)
    assert "windrow.visible" in next(line for line in lines if line.startswith("causal"))
    html = found._repr_html_()
    assert html.count("<tr>") == 1 + len(found.checks)
    with pytest.raises(KeyError, match="no check is named 'cauzal'"):
        found["cauzal"]
