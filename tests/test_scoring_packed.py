"""Packed rows are chosen if they cost less, and refused if the model does not support them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lm_eval.api.instance import Instance

import test_scoring_trees as trees
import windrow
from byte_tokenizer import ByteTokenizer
from windrow import BatchPolicy, JaxLM, LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer 'ByteTokenizer' encodes in Python")

WORDS = ["rake", "cut", "dry", "turn", "bind", "stack", "thresh", "winnow"]
PAIRS = [
    (" ".join(WORDS[(number + step) % 8] for step in range(1 + number % 9)), f" number {number}")
    for number in range(60)
]
"""Of various lengths, with only short shared prefixes."""


def without_reach(model):
    """The same model without support for prefix trees."""
    return replace(
        model,
        apply=lambda params, tokens, positions, segment_ids: model.apply(
            params, tokens, positions, segment_ids, None
        ),
    )


HONEST = without_reach(trees.HONEST)
BROKEN = {
    "ignores segment ids": without_reach(trees.BROKEN["attends to the whole row"]),
    "uses the column as the position": without_reach(trees.BROKEN["uses the column as the position"]),
}


def scored(model, **policy):
    lm = JaxLM(model, ByteTokenizer(), prefix_token_id=0, **policy)
    results = lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)])
    return np.array([value for value, _ in results]), lm.report()


@pytest.fixture(scope="module")
def alone():
    return scored(HONEST, pack=False)


@pytest.mark.parametrize("share", ["auto", "equal", False])
def test_packed_rows_are_chosen_where_they_cost_less(alone, share):
    expected, unpacked = alone
    values, report = scored(HONEST, share=share)
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert report["layout"]["pack"] is True
    assert report["layout"]["costs"]["packed"] < report["layout"]["costs"]["rows"]
    assert "trees" not in report["layout"]["costs"], "the model has no reach parameter"
    assert report["device_tokens"] < unpacked["device_tokens"]


def test_small_savings_skip_the_choice_of_layout(alone, monkeypatch):
    from windrow.scoring import choice

    def no_price(*_, **__):
        raise AssertionError("priced")

    monkeypatch.setattr(choice, "CHOICE", 0.25)
    monkeypatch.setattr(choice.RowPrice, "of", no_price)
    values, report = scored(HONEST)
    np.testing.assert_array_equal(values, alone[0])
    assert report["layout"] == {"share": "equal", "pack": False}
    monkeypatch.setattr(choice, "CHOICE", 0.001)
    with pytest.raises(AssertionError, match="priced"):
        scored(HONEST)


@pytest.mark.parametrize("policy", [{}, {"batch_size": 8}, {"tokens_per_batch": 256}, {"max_shapes": 1}])
def test_requested_packing(alone, policy):
    values, report = scored(HONEST, pack=True, **policy)
    np.testing.assert_allclose(values, alone[0], atol=1e-3)
    assert report["layout"]["pack"] is True


@pytest.mark.parametrize("fault", BROKEN)
def test_model_that_does_not_support_packed_rows(fault):
    model = BROKEN[fault]
    message = r"pack=True does not work with this model: a token's log-probability is -\d+.* after another"
    with pytest.raises(ValueError, match=message):
        scored(model, pack=True)
    expected, _ = scored(model, pack=False)
    values, report = scored(model)
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert report["layout"]["pack"] is False


def test_model_without_positions_and_segment_ids_is_not_packed():
    table = jax.random.normal(jax.random.key(0), (256, 256))
    model = LanguageModel(table, lambda params, tokens, *_: jnp.cumsum(params[tokens], axis=1))
    values, report = scored(model)
    np.testing.assert_allclose(values, scored(model, pack=False)[0], atol=1e-3)
    assert report["layout"] == {"share": "equal", "pack": False}
    with pytest.raises(ValueError, match="pack=True does not work"):
        scored(model, pack=True)


def test_every_attempt_is_refused():
    lm = JaxLM(BROKEN["ignores segment ids"], ByteTokenizer(), prefix_token_id=0, pack=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="pack=True does not work"):
            lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)])


def test_rows_are_no_longer_than_the_models_limit():
    _, report = scored(HONEST, tokens_per_batch=8192)
    assert max(length for _, length in report["shapes"]) <= HONEST.max_length


@pytest.mark.exhaustive
@pytest.mark.parametrize("chunk_length", [None, 16])
def test_recurrent_model(evals, chunk_length):
    """Mamba's state is reset at each segment, in whole rows and in chunks."""
    folder = str(evals / "parity" / "tiny-mamba")
    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)]
    plain, packed = (
        JaxLM(pretrained=folder, pack=pack, chunk_length=chunk_length) for pack in (False, "auto")
    )
    expected = plain.loglikelihood(requests)
    for (value, greedy), (other, flag) in zip(packed.loglikelihood(requests), expected, strict=True):
        assert value == pytest.approx(other, abs=1e-3)
        assert greedy == flag
    assert packed.report()["layout"]["pack"] is True


def test_single_request():
    result = windrow.score(HONEST, ByteTokenizer(), PAIRS[:1])
    expected = windrow.score(HONEST, ByteTokenizer(), PAIRS[:1], policy=BatchPolicy(pack=False))
    np.testing.assert_allclose(result.log_likelihoods, expected.log_likelihoods, atol=1e-3)


@pytest.mark.parametrize(("given", "meant"), [("auto", "auto"), ("True", True), ("no", False), (True, True)])
def test_pack_on_a_command_line(given, meant):
    assert JaxLM(HONEST, ByteTokenizer(), prefix_token_id=0, pack=given).policy.pack == meant


def test_invalid_pack():
    for pack in ("trees", 1, None):
        with pytest.raises(ValueError, match=f"pack must be 'auto', True or False, not {pack!r}"):
            BatchPolicy(pack=pack)
    with pytest.raises(ValueError, match="pack must be 'auto', True or False, not 'maybe'"):
        JaxLM(HONEST, ByteTokenizer(), prefix_token_id=0, pack="maybe")
