"""Models on the caller's mesh: default meshes, explicit axes, and an axis that splits the length."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

import windrow
from byte_tokenizer import ByteTokenizer
from exhaustive import exhaustive
from small_model import head, hidden, init_state, naive_logprobs, prefix_model, step
from windrow.sharding import RowSharding

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")

PAIRS = [("ab", "c"), ("a", "bcd"), ("abcdefg", "hi"), ("", "xyz"), ("abc" * 9, "de")]
PROMPTS = ["ab", "xyz", "hello there"]
ALL_PARTS = {"hidden": hidden, "head": head, "init_state": init_state, "step": step}
P = PartitionSpec


def automatic():
    return Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor"))


def explicit():
    return jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Explicit,) * 2)


def on_mesh(model, mesh, axis="tensor"):
    specs = {"embedding": P(None, axis), "head": P(axis, None)}
    placed = {
        name: jax.device_put(leaf, NamedSharding(mesh, specs[name])) for name, leaf in model.params.items()
    }
    return replace(model, params=placed)


def known_scores(params):
    totals = []
    for context, continuation in PAIRS:
        tokens = (context or "\0").encode() + continuation.encode()
        known = naive_logprobs(params, tokens)[-len(continuation) :]
        totals.append(sum(logprob for logprob, _ in known))
    return totals


def known_tokens(params, prompt, count):
    text = list(prompt.encode())
    embedding, matrix = (np.asarray(params[name], np.float64) for name in ("embedding", "head"))
    for _ in range(count):
        text.append(int((np.tanh(embedding[text].sum(0) / len(text)) @ matrix).argmax()))
    return text[len(prompt) :]


class Bytes(ByteTokenizer):
    bos_token_id = 0


def assert_right(model, params, sharding=None, **options):
    """Checks the model's scores and texts, from every interface, against naive ones for the parameters."""
    expected = known_scores(params)
    scores = windrow.score(model, Bytes(), PAIRS, sharding=sharding, **options)
    np.testing.assert_allclose(scores.log_likelihoods, expected, atol=1e-4)
    made = windrow.generate(
        model, Bytes(), PROMPTS, max_new_tokens=5, end_tokens=[], sharding=sharding, **options
    )
    for index, prompt in enumerate(PROMPTS):
        assert made.tokens[made.offsets[index] : made.offsets[index + 1]].tolist() == known_tokens(
            params, prompt, 5
        )


def rows_of(lm):
    return lm.sharding.sharding.spec, lm.sharding.mesh.axis_names, lm.sharding.groups


@pytest.mark.parametrize("parts", [exhaustive({}), ALL_PARTS])
def test_mesh_of_the_parameters_is_used(parts):
    """Rows are split over the axis that does not split the parameters."""
    plain = prefix_model(256, **parts)
    model = on_mesh(plain, automatic())
    assert_right(model, plain.params)
    lm = windrow.JaxLM(model, Bytes(), prefix_token_id=0)
    assert rows_of(lm) == (P(("data",)), ("data", "tensor"), 4)
    results = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in PAIRS])
    np.testing.assert_allclose([total for total, _ in results], known_scores(plain.params), atol=1e-4)


def test_mesh_in_the_context_is_used():
    plain = prefix_model(256)
    devices = np.array(jax.devices())[[3, 1, 0, 2]]
    with jax.set_mesh(Mesh(devices, ("rows",))):
        assert rows_of(windrow.JaxLM(plain, Bytes())) == (P(("rows",)), ("rows",), 4)
        assert_right(plain, plain.params)
    assert RowSharding.over(None, plain.params).groups == 8
    with jax.set_mesh(automatic()):  # a given mesh takes precedence
        assert RowSharding.over(Mesh(devices, ("rows",)), plain.params).groups == 4


def test_parameters_split_over_all_axes():
    plain = prefix_model(256)
    model = on_mesh(plain, automatic(), ("data", "tensor"))
    assert RowSharding.over(None, model.params).groups == 8
    assert_right(model, plain.params)


def explicit_hidden(params, tokens, positions, segment_ids):
    """A model written for explicit axes: gathers and products specify the sharding of their results."""
    assert jax.typeof(tokens).sharding.spec == P("data", None)
    embedded = params["embedding"].at[tokens].get(out_sharding=P("data", None, "tensor"))
    sums = jnp.cumsum(embedded, axis=1)
    return jnp.tanh(sums / (1 + positions[:, :, None].astype(jnp.float32)))


def explicit_head(params, picked):
    assert jax.typeof(params["head"]).sharding.spec == P("tensor", None)
    return jnp.einsum("nw,wv->nv", picked, params["head"], out_sharding=P("data", None))


def explicit_apply(params, *batch):
    made = explicit_hidden(params, *batch)
    return jnp.einsum("rlw,wv->rlv", made, params["head"], out_sharding=P("data", None, None))


def explicit_state(params, rows):
    return jnp.zeros((rows, params["embedding"].shape[1]), out_sharding=P("data", "tensor"))


def explicit_step(params, state, tokens, positions, segment_ids):
    assert jax.typeof(state).sharding.spec == P("data", "tensor")
    embedded = params["embedding"].at[tokens].get(out_sharding=P("data", None, "tensor"))
    real = (segment_ids > 0)[:, :, None]
    sums = state[:, None] + jnp.cumsum(jnp.where(real, embedded, 0), axis=1)
    return sums[:, -1], jnp.tanh(sums / (1 + positions[:, :, None].astype(jnp.float32)))


EXPLICIT = {
    "apply": {},
    "hidden+head": {"hidden": explicit_hidden, "head": explicit_head},
    "step": {
        "hidden": explicit_hidden,
        "head": explicit_head,
        "init_state": explicit_state,
        "step": explicit_step,
    },
}


HOW = ("given", "in the context", "of the parameters")


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        (how, parts) if (how, parts) in zip(HOW, EXPLICIT, strict=True) else exhaustive(how, parts)
        for how in HOW
        for parts in EXPLICIT
    ],
)
def test_models_written_for_explicit_axes(parts, how):
    plain = prefix_model(256)
    model = on_mesh(replace(plain, apply=explicit_apply, **EXPLICIT[parts]), explicit())
    if how == "given":
        assert_right(model, plain.params, NamedSharding(explicit(), P("data")))
    elif how == "in the context":
        with jax.set_mesh(explicit()):
            assert_right(model, plain.params)
    else:
        assert_right(model, plain.params)


def test_chunks_of_a_model_with_explicit_axes():
    plain = prefix_model(256)
    model = on_mesh(replace(plain, apply=explicit_apply, **EXPLICIT["step"]), explicit())
    assert_right(model, plain.params, chunk_length=3)


def test_some_axes_explicit_and_some_automatic():
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto, AxisType.Explicit))

    def apply(params, tokens, positions, segment_ids):
        assert jax.typeof(params["head"]).sharding.spec == P("tensor", None)
        embedded = params["embedding"].at[tokens].get(out_sharding=P(None, None, "tensor"))
        sums = jnp.cumsum(embedded, axis=1) / (1 + positions[:, :, None].astype(jnp.float32))
        return jnp.einsum("rlw,wv->rlv", jnp.tanh(sums), params["head"], out_sharding=P(None, None, None))

    plain = prefix_model(256)
    assert_right(on_mesh(replace(plain, apply=apply), mesh), plain.params)


@pytest.mark.parametrize("parts", [exhaustive({}), ALL_PARTS])
def test_other_models_run_on_a_mesh_with_explicit_axes(parts):
    plain = prefix_model(256, **parts)
    assert_right(on_mesh(plain, explicit()), plain.params)


def test_model_that_fails_with_both_axis_types_is_refused():
    def apply(params, tokens, positions, segment_ids):
        return jnp.zeros((*tokens.shape, 256), out_sharding=P("no such axis"))

    model = on_mesh(replace(prefix_model(256), apply=apply), explicit())
    with pytest.raises(ValueError, match="no such axis"):
        windrow.JaxLM(model, Bytes())


def test_open_spec_is_refused():
    open_spec = NamedSharding(automatic(), P("data", P.UNCONSTRAINED))
    with pytest.raises(ValueError, match="is unconstrained; name the mesh axes"):
        windrow.score(prefix_model(256), Bytes(), PAIRS, sharding=open_spec)


def test_split_length_pads_to_divisible_lengths():
    """The model sums along the length in parts, one per device of the axis, as in ring attention."""
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "length"))
    lengths = []

    @partial(
        jax.shard_map, mesh=mesh, in_specs=P("data", "length", None), out_specs=P("data", "length", None)
    )
    def summed(parts):
        own = jnp.cumsum(parts, axis=1)
        totals = jax.lax.all_gather(own[:, -1], "length")
        before = (jnp.arange(4) < jax.lax.axis_index("length"))[:, None, None]
        return own + jnp.where(before, totals, 0).sum(0)[:, None]

    def apply(params, tokens, positions, segment_ids):
        lengths.append(tokens.shape[1])
        sums = summed(params["embedding"][tokens])
        return jnp.tanh(sums / (1 + positions[:, :, None].astype(jnp.float32))) @ params["head"]

    plain = prefix_model(256)
    where = NamedSharding(mesh, P("data", "length"))
    for policy in (None, windrow.BatchPolicy(batch_size=4, padding_multiple=6)):
        assert_right(replace(plain, apply=apply), plain.params, where, policy=policy)
        assert {length % (4 if policy is None else 12) for length in lengths} == {0}
        lengths.clear()


@pytest.mark.parametrize("parts", [exhaustive({}), ALL_PARTS])
def test_functions_are_checked_in_a_shape_of_the_policy(parts):
    """Kernels for blocks of 16 rows and 128 tokens assert these sizes."""
    shapes = set()
    plain = prefix_model(256, **parts)

    def blocked(function, rows):
        def call(params, tokens, *others):
            assert tokens.shape[0] % rows == 0, "the kernel needs a multiple of its number of rows"
            assert tokens.shape[1] % 128 == 0, "the kernel needs a multiple of 128 tokens"
            shapes.add(tokens.shape)
            return function(params, tokens, *others)

        return call

    def kernels(rows):
        forward = {"apply": plain.apply, "hidden": plain.hidden}
        return replace(plain, **{name: part and blocked(part, rows) for name, part in forward.items()})

    policy = windrow.BatchPolicy(batch_size=16, padding_multiple=128)
    scores = windrow.score(kernels(16), Bytes(), PAIRS, policy=policy)
    np.testing.assert_allclose(scores.log_likelihoods, known_scores(plain.params), atol=1e-4)
    assert shapes == {(16, 128), (16, 2048)}, "the longer rows are traced to determine their price"
    lm = windrow.JaxLM(kernels(8), Bytes(), batch_size=16, padding_multiple=128)
    made = lm.generate_until(
        [Instance("generate_until", {}, (text, {"max_gen_toks": 4}), 0) for text in PROMPTS]
    )
    assert [text.encode() for text in made] == [
        bytes(known_tokens(plain.params, prompt, 4)).decode(errors="replace").encode() for prompt in PROMPTS
    ]
    assert {length for _, length in shapes} == {128, 2048}
