"""Scores from rows with prefix trees: recorded results, several devices, and models without support."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

import windrow
from byte_tokenizer import ByteTokenizer
from exhaustive import quick
from windrow import BatchPolicy, JaxLM, LanguageModel, visible
from windrow.scoring.choice import RowPrice, cost

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer 'ByteTokenizer' encodes in Python")

DEVICES = {
    "1": lambda: Mesh(np.array(jax.devices()[:1]), ("data",)),
    "8": lambda: Mesh(np.array(jax.devices()), ("data",)),
    "data x tensor": lambda: NamedSharding(
        jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2),
        PartitionSpec("data"),
    ),
}


def recorded(evals, name, kind):
    text = (evals / "parity" / f"{name}.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.rstrip("\n").split("\n")]
    return [line for line in lines if line["type"] == kind]


def assert_equal_to_recorded(lm, lines, kind):
    requests = [Instance(kind, {}, tuple(line["args"]), index) for index, line in enumerate(lines)]
    for found, line in zip(getattr(lm, kind)(requests), lines, strict=True):
        value, greedy = found if isinstance(found, tuple) else (found, None)
        expected, flag = line["result"] if isinstance(line["result"], list) else (line["result"], None)
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-3), line["args"]
        assert greedy == flag, line["args"]


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("devices", quick(DEVICES, ["data x tensor"]))
def test_few_shot_scores_match_recorded_ones(evals, devices):
    """Requests that share prefixes at three levels: examples, questions, answers."""
    lm = JaxLM(
        pretrained=str(evals / "parity" / "tiny-llama_long"), share="trees", sharding=DEVICES[devices]()
    )
    assert_equal_to_recorded(lm, recorded(evals, "llama_long", "loglikelihood"), "loglikelihood")
    report = lm.report()
    assert report["device_tokens"] < 0.4 * report["real_tokens"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling"])
def test_all_scores_match_recorded_ones(evals, name, kind):
    """Zero-shot requests, with truncated and equal inputs and shifted reads, and windows of long texts."""
    lm = JaxLM(pretrained=str(evals / "parity" / f"tiny-{name}"), share="trees")
    assert_equal_to_recorded(lm, recorded(evals, name, kind), kind)


@pytest.mark.usefixtures("optimized")
def test_trees_are_chosen_where_they_cost_less(evals):
    lines = recorded(evals, "llama_long", "loglikelihood")[:60]
    lm = JaxLM(pretrained=str(evals / "parity" / "tiny-llama_long"))
    assert_equal_to_recorded(lm, lines, "loglikelihood")
    report = lm.report()
    costs = report["layout"]["costs"]
    assert costs["trees"] < min(costs["rows"], costs["packed"])
    assert (report["layout"]["share"], report["layout"]["pack"]) == ("trees", False)
    assert report["device_tokens"] < report["real_tokens"]
    unrelated = [Instance("loglikelihood", {}, (str(n), " more"), n) for n in range(10)]
    lm.loglikelihood(unrelated)
    assert lm.report()["layout"]["share"] in ("trees", "equal")


PAIRS = [
    (f"Question {number // 4}: which of the four? Answer:", f" the one called {number % 4}")
    for number in range(40)
]


def attention(mask_of, place_of=lambda positions: positions):
    """A byte-level model with one layer of attention and learned positions."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "tokens": jax.random.normal(keys[0], (256, 16)),
        "places": jax.random.normal(keys[1], (128, 16)),
        "out": jax.random.normal(keys[2], (16, 256)),
    }

    def apply(params, tokens, positions, segment_ids, reach):
        x = params["tokens"][tokens] + params["places"][place_of(positions)]
        scores = jnp.einsum("rqw,rkw->rqk", x, x) / 8
        weights = jax.nn.softmax(jnp.where(mask_of(segment_ids, reach), scores, -1e9), axis=-1)
        return jnp.einsum("rqk,rkw->rqw", weights, x) @ params["out"]

    return LanguageModel(params, apply, max_length=128)


def by_index(positions):
    return jnp.broadcast_to(jnp.arange(positions.shape[1]) % 128, positions.shape)


HONEST = attention(visible)
BROKEN = {
    "ignores reach": attention(lambda segment_ids, reach: visible(segment_ids)),
    "uses the column as the position": attention(visible, by_index),
    "hides the last token of a reach": attention(lambda segment_ids, reach: visible(segment_ids, reach - 1)),
    "attends to the whole row": attention(lambda segment_ids, reach: visible(jnp.ones_like(segment_ids))),
}


def scored(model, share, **policy):
    return windrow.score(
        model, ByteTokenizer(), PAIRS, policy=BatchPolicy(share=share, **policy)
    ).log_likelihoods


def test_custom_model_with_a_mask():
    expected = scored(HONEST, False)
    for share in ("trees", "auto", "equal"):
        np.testing.assert_allclose(scored(HONEST, share), expected, atol=1e-3)
    np.testing.assert_allclose(scored(HONEST, "trees", batch_size=8), expected, atol=1e-3)
    np.testing.assert_allclose(scored(HONEST, "trees", tokens_per_batch="auto"), expected, atol=1e-3)


@pytest.mark.parametrize("fault", BROKEN)
def test_model_that_ignores_reach_is_refused(fault):
    message = r"share='trees' does not work with this model: a token's log-probability is -\d+.* in a row"
    with pytest.raises(ValueError, match=message):
        scored(BROKEN[fault], "trees")


def test_automatic_sharing_skips_trees_for_such_a_model():
    model = BROKEN["uses the column as the position"]
    np.testing.assert_allclose(scored(model, "auto"), scored(model, False), atol=1e-3)


def test_invalid_share():
    plain = LanguageModel(jnp.zeros((256, 256)), lambda params, tokens, *_: params[tokens])
    with pytest.raises(ValueError, match="share='trees' needs a model whose apply has a parameter 'reach'"):
        scored(plain, "trees")
    with pytest.raises(
        ValueError, match="share must be 'auto', 'trees', 'forks', 'equal' or False, not 'all'"
    ):
        BatchPolicy(share="all")
    with pytest.raises(ValueError, match="share='trees' already packs rows; leave out pack"):
        BatchPolicy(share="trees", pack=True)
    with pytest.raises(
        ValueError, match="share must be 'auto', 'trees', 'forks', 'equal' or False, not 'tree'"
    ):
        JaxLM(HONEST, ByteTokenizer(), share="tree", prefix_token_id=0)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("True", "auto"),
        (True, "auto"),
        ("auto", "auto"),
        ("Trees", "trees"),
        ("equal", "equal"),
        ("False", False),
    ],
)
def test_share_on_a_command_line(given, meant):
    assert JaxLM(HONEST, ByteTokenizer(), prefix_token_id=0, share=given).policy.share == meant


def test_tree_batches_are_not_larger_than_plain_ones():
    lengths = [len(context) + len(continuation) - 1 for context, continuation in PAIRS]
    lm = JaxLM(HONEST, ByteTokenizer(), share="trees", batch_size=8, prefix_token_id=0)
    lm.loglikelihood([Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)])
    assert all(rows * length <= 8 * max(lengths) for rows, length in lm.report()["shapes"])


def test_row_prices_follow_xla_operation_counts():
    price = RowPrice.of(HONEST, HONEST.params, 1)
    assert price(128) == 128
    assert price(1024) > 2 * 1024  # attention
    plain = LanguageModel(jnp.ones((256, 256)), lambda params, tokens, *_: jnp.tanh(params[tokens] @ params))
    assert RowPrice.of(plain, plain.params, 1)(1024) == pytest.approx(1024)
    assert RowPrice.of(LanguageModel(None, lambda *_: 1 / 0), None, 1)(1024) == 1024
    plan = windrow.Plan(np.array([5, 3], np.int32), batch_size=1, padded_lengths=[3, 5])
    assert cost(plan, RowPrice()) == 8 + 8192
