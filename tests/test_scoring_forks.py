"""Scores from forked states: recorded results, several devices, and models with unsuitable states."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lm_eval.api.instance import Instance

import windrow
from byte_tokenizer import ByteTokenizer
from exhaustive import exhaustive, quick
from test_scoring_trees import DEVICES, assert_equal_to_recorded, recorded
from windrow import BatchPolicy, JaxLM, LanguageModel
from windrow.scoring.choice import RowPrice

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer 'ByteTokenizer' encodes in Python")

TASKS = [" ".join(["rake", "cut", "dry", "turn"][n:] * 9) for n in range(3)]
PAIRS = [
    (f"{task} {'bind stack thresh'[:document]} {document}", answer)
    for task in TASKS
    for document in range(40)
    for answer in (" yes", " no", " winnow it")
]
"""Requests that share prefixes at two levels."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("devices", ["1", "8"])
def test_few_shot_scores_match_recorded_ones(evals, devices):
    """Requests that share prefixes at three levels, with a key-value cache."""
    folder = str(evals / "parity" / "tiny-llama_long")
    lm = JaxLM(pretrained=folder, share="forks", sharding=DEVICES[devices](), batch_size=16, max_shapes=2)
    assert_equal_to_recorded(lm, recorded(evals, "llama_long", "loglikelihood"), "loglikelihood")
    report = lm.report()
    assert report["layout"] == {"share": "forks", "pack": False}
    assert report["row_tokens"] < 0.4 * report["real_tokens"]


VOCABULARY, WIDTH = 256, 16


def counting_model(**changed):
    """A small recurrent model with a decaying state, in which positions weight the tokens."""
    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        "embed": jax.random.normal(keys[0], (VOCABULARY, WIDTH)),
        "head": jax.random.normal(keys[1], (WIDTH, VOCABULARY)),
    }

    def init_state(params, rows):
        return jnp.zeros((rows, WIDTH))

    def step(params, state, tokens, positions, segment_ids):
        def one(state, now):
            token, position, real = now
            weight = 1 + jnp.sin(position.astype(jnp.float32))[:, None]
            new = 0.9 * state + weight * params["embed"][token]
            state = jnp.where(real[:, None] > 0, new, state)
            return state, jnp.tanh(state) @ params["head"]

        by_token = [jnp.moveaxis(part, 1, 0) for part in (tokens, positions, segment_ids)]
        state, logits = jax.lax.scan(one, state, tuple(by_token))
        return state, jnp.moveaxis(logits, 0, 1)

    def apply(params, tokens, positions, segment_ids):
        return step(params, init_state(params, len(tokens)), tokens, positions, segment_ids)[1]

    functions = {"init_state": init_state, "step": step, "apply": apply}
    return LanguageModel(params, max_length=512, **(functions | changed))


HONEST = counting_model()


def scored(model, **policy):
    lm = JaxLM(model, ByteTokenizer(), prefix_token_id=0, pack=False, **policy)
    results = lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)])
    return np.array([value for value, _ in results]), lm.report()


@pytest.fixture(scope="module")
def alone():
    return scored(HONEST, share="equal")


@pytest.mark.parametrize(
    "policy", [{}, exhaustive({"batch_size": 8}), {"chunk_length": 7}, exhaustive({"max_shapes": 1})]
)
def test_requested_forks(alone, policy):
    expected, unshared = alone
    values, report = scored(HONEST, share="forks", **policy)
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert report["layout"]["share"] == "forks"
    assert report["row_tokens"] < 0.5 * unshared["row_tokens"]


def test_random_keys_in_the_state(alone):
    def init_state(params, rows):
        return HONEST.init_state(params, rows), jax.random.split(jax.random.key(0), rows)

    def step(params, state, *batch):
        memory, logits = HONEST.step(params, state[0], *batch)
        return (memory, state[1]), logits

    values, _ = scored(replace(HONEST, init_state=init_state, step=step), share="forks")
    np.testing.assert_allclose(values, alone[0], atol=1e-3)


def test_forks_are_chosen_where_they_cost_less(alone):
    # For a model with many parameters, compiling another shape costs relatively little.
    large = replace(HONEST, params={**HONEST.params, "unused": jnp.zeros(50_000_000, jnp.int8)})
    values, report = scored(large)
    np.testing.assert_allclose(values, alone[0], atol=1e-3)
    costs = report["layout"]["costs"]
    assert costs["forks"] < costs["rows"]
    assert report["layout"]["share"] == "forks"
    lm = JaxLM(large, ByteTokenizer(), prefix_token_id=0)
    lm.loglikelihood([Instance("loglikelihood", {}, (chr(97 + n), " more"), n) for n in range(20)])
    assert lm.report()["layout"]["share"] == "equal", "these inputs share no prefix"


def test_batches_are_sized_to_memory(alone):
    values, report = scored(HONEST, share="forks", tokens_per_batch="auto", memory_budget="64MiB")
    np.testing.assert_allclose(values, alone[0], atol=1e-3)
    chosen = report["auto"]["scoring"]
    assert 0 < chosen["predicted_bytes"] <= chosen["planned_bytes"] <= 64 << 20


def test_score_with_forks(alone):
    """`windrow.score` accepts the same setting."""
    policy = BatchPolicy(share="forks")
    scores = windrow.score(HONEST, ByteTokenizer(), PAIRS, policy=policy)
    expected = windrow.score(HONEST, ByteTokenizer(), PAIRS, policy=BatchPolicy(share="equal", pack=False))
    np.testing.assert_allclose(scores.log_likelihoods, expected.log_likelihoods, atol=1e-3)


def forgets(params, state, *batch):
    """Resets the state at each chunk."""
    return HONEST.step(params, jnp.zeros_like(state), *batch)


def counts_from_the_chunk(params, state, tokens, positions, segment_ids):
    """Uses the column of the chunk as the position."""
    columns = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    return HONEST.step(params, state, tokens, columns, segment_ids)


def runs_over_padding(params, state, tokens, positions, segment_ids):
    """Changes the state where the segment id is 0."""
    return HONEST.step(params, state, tokens, positions, jnp.ones_like(segment_ids))


def mixes_rows(params, state, *batch):
    """Uses the state of another row."""
    return HONEST.step(params, jnp.roll(state, 1, axis=0), *batch)


BROKEN = {fault.__doc__: fault for fault in (forgets, counts_from_the_chunk, runs_over_padding, mixes_rows)}


@pytest.mark.parametrize("fault", quick(BROKEN, [forgets.__doc__, mixes_rows.__doc__]))
def test_model_whose_state_cannot_be_forked(fault, alone):
    model = replace(HONEST, step=BROKEN[fault])
    message = r"share='forks' does not work with this model: a token's log-probability is -\d+.* stored state"
    with pytest.raises(ValueError, match=message):
        scored(model, share="forks")
    values, report = scored(model)
    np.testing.assert_allclose(values, alone[0], atol=1e-3)
    assert report["layout"]["share"] == "equal"


def cached_model(room):
    """A model whose state is a cache of ``room`` tokens, whatever length is requested."""

    def fading(positions, length):
        back = positions[:, :, None] - jnp.arange(length)[None, None]
        return jnp.where(back >= 0, jnp.float32(0.8) ** back.astype(jnp.float32), jnp.float32(0))

    def init_state(params, rows):
        return {"tokens": jnp.zeros((rows, room), jnp.int32), "count": jnp.zeros((rows,), jnp.int32)}

    def step(params, state, tokens, positions, segment_ids):
        def write(held, count, new):
            return jax.lax.dynamic_update_slice(held, new, (count,))

        held = jax.vmap(write)(state["tokens"], state["count"], tokens)
        weights = fading(positions, room)
        mixed = jnp.einsum("rqk,rkw->rqw", weights, params["embed"][held])
        count = state["count"] + segment_ids.sum(axis=1, dtype=jnp.int32)
        return {"tokens": held, "count": count}, jnp.tanh(mixed) @ params["head"]

    def apply(params, tokens, positions, segment_ids):
        length = tokens.shape[1]
        mixed = jnp.einsum("rqk,rkw->rqw", fading(positions, length), params["embed"][tokens])
        return jnp.tanh(mixed) @ params["head"]

    return counting_model(init_state=init_state, step=step, apply=apply)


def test_cache_too_short_for_the_longest_input():
    short = cached_model(100)
    with pytest.raises(ValueError, match="share='forks' does not work with this model: TypeError: Bounds"):
        scored(short, share="forks")
    np.testing.assert_allclose(scored(short)[0], scored(short, share="equal")[0], atol=1e-3)
    values, report = scored(cached_model(512), share="forks")
    np.testing.assert_allclose(values, scored(cached_model(512), share="equal")[0], atol=1e-3)
    assert report["layout"]["share"] == "forks"


def test_model_without_step():
    model = LanguageModel(HONEST.params, HONEST.apply, max_length=512)
    with pytest.raises(ValueError, match="share='forks' needs a model with init_state and step"):
        scored(model, share="forks")
    assert scored(model)[1]["layout"]["share"] == "equal"


def test_incompatible_settings():
    with pytest.raises(ValueError, match="share='forks' has one input per row; leave out pack"):
        BatchPolicy(share="forks", pack=True)
    with pytest.raises(ValueError, match="share='forks' needs a model"):
        windrow.evaluation_dataset(
            [Instance("loglikelihood", {}, PAIRS[0], 0)], ByteTokenizer(), share="forks"
        )


def test_price_of_step():
    assert RowPrice(step=2.0).of_step(np.array([100, 0])).tolist() == [208.0, 8.0]
