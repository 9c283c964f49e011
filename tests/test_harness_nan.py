"""Infinite and NaN logits in lm_eval's class, `windrow.score` and `windrow.generate`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import windrow
from byte_lm import named_requests, requests_of
from byte_tokenizer import ByteTokenizer
from small_model import naive_logprobs, prefix_model
from windrow.harness import JaxLM

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")


def biased_lm(bias, arguments=None, **options):
    """A byte-level model: the prefix model's logits plus ``bias(last byte)``, ``[256]``."""
    model = prefix_model(256, max_length=64)

    def biased(params, tokens, positions, segment_ids):
        return model.apply(params, tokens, positions, segment_ids) + jax.vmap(jax.vmap(bias))(tokens)

    return JaxLM(
        windrow.LanguageModel(model.params, biased, max_length=64),
        ByteTokenizer(),
        **{"prefix_token_id": 0, "on_bad_request": "raise", **options},
    )


SHARED_AND_PACKED = [{}, {"pack": True}, {"share": False}, {"batch_size": 8}]


@pytest.mark.parametrize("options", SHARED_AND_PACKED, ids=str)
def test_logits_may_be_minus_infinity(options):
    """As in log_softmax, their tokens have log-probability minus infinity; others are unaffected."""
    banned = ord("z")
    lm = biased_lm(lambda last: jnp.where(jnp.arange(256) == banned, -jnp.inf, 0.0), **options)
    pairs = [("ab", "z"), ("ab", "c"), ("ab", "cz"), ("abc", "de"), ("ab", "zc")]
    results = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    for (context, continuation), (total, greedy) in zip(pairs, results, strict=True):
        if "z" in continuation:
            assert (total, greedy) == (-np.inf, False)
        else:
            assert total == pytest.approx(expected_without(lm, banned, context, continuation), abs=1e-4)
    totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", ("az",), ("ab",)))
    assert totals[0] == -np.inf
    assert np.isfinite(totals[1])
    scores = windrow.score(lm.model, lm.tokenizer, pairs)
    assert scores.log_likelihoods.tolist() == pytest.approx([total for total, _ in results], abs=1e-5)
    assert scores.skipped.tolist() == []


def expected_without(lm, banned, context, continuation):
    """The continuation's log-likelihood if one token has probability 0."""
    total, sequence = 0.0, list((context + continuation).encode())
    for end in range(len(context), len(sequence)):
        every = [naive_logprobs(lm.model.params, [*sequence[:end], token])[-1][0] for token in (banned,)]
        total += naive_logprobs(lm.model.params, sequence[: end + 1])[-1][0] - np.log1p(-np.exp(every[0]))
    return total


def test_greedy_flags_with_logits_of_minus_infinity():
    """If all logits except one are minus infinity, that token is certain."""
    lm = biased_lm(lambda last: jnp.where(jnp.arange(256) == last + 1, 0.0, -jnp.inf))
    results = lm.loglikelihood(requests_of("loglikelihood", ("a", "b"), ("a", "bc"), ("a", "bd"), ("a", "x")))
    assert results == [(0.0, True), (0.0, True), (-np.inf, False), (-np.inf, False)]


def not_a_number(last):
    return jnp.where(last == ord("!"), jnp.nan, 0.0) * jnp.ones(256)


PAIRS = [("ab", "c"), ("oh!", "d"), ("ab", "d"), ("abcdef", "gh"), ("a", "b!c"), ("a", "b!")]


@pytest.mark.parametrize("options", SHARED_AND_PACKED, ids=str)
def test_nan_requests_are_named_and_the_others_scored(options):
    lm, kept = biased_lm(not_a_number, **options), {}

    class Hook:
        def add_partial(self, kind, arguments, result):
            kept[tuple(arguments)] = result

    lm.set_cache_hook(Hook())
    message = (
        r"(?s)^request 1 \(task animals, document 11\): the model's log-probability is not a number \(NaN\)"
        r".*\nrequest 4 \(task animals, document 14\): .*on_bad_request=\"skip\"\.$"
    )
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(named_requests("loglikelihood", *PAIRS))
    assert set(kept) == {pair for index, pair in enumerate(PAIRS) if index not in (1, 4)}
    assert all(np.isfinite(total) for total, _ in kept.values())


@pytest.mark.parametrize("options", SHARED_AND_PACKED, ids=str)
def test_nan_requests_can_be_skipped(options):
    good = biased_lm(lambda last: jnp.zeros(256)).loglikelihood(requests_of("loglikelihood", *PAIRS))
    lm = biased_lm(not_a_number, on_bad_request="skip", **options)
    with pytest.warns(UserWarning, match=r"as failures: request 1 \(task animals, document 11\), request 4"):
        results = lm.loglikelihood(named_requests("loglikelihood", *PAIRS))
    for index, (result, expected) in enumerate(zip(results, good, strict=True)):
        assert result == (
            (-np.inf, False) if index in (1, 4) else (pytest.approx(expected[0], abs=1e-4), expected[1])
        )
    assert lm.report()["skipped"] == 2
    with pytest.warns(UserWarning, match="as failures: request 1"):
        totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", ("ab",), ("a!b",), ("",)))
    assert (np.isfinite(totals[0]), totals[1:]) == (True, [-np.inf, 0.0])


def test_score_names_or_skips_nan_requests():
    lm = biased_lm(not_a_number)
    with pytest.raises(ValueError, match=r"(?s)^request 1: the model's log-probability .*request 4: "):
        windrow.score(lm.model, lm.tokenizer, PAIRS)
    scores = windrow.score(lm.model, lm.tokenizer, PAIRS, on_bad_request="skip")
    assert scores.skipped.tolist() == [1, 4]
    assert scores.log_likelihoods[[1, 4]].tolist() == [-np.inf, -np.inf]
    assert not scores.greedy[[1, 4]].any()
    assert np.isfinite(scores.log_likelihoods[[0, 2, 3, 5]]).all()


def test_model_that_always_returns_nan_ends_the_run_early():
    lm = biased_lm(lambda last: jnp.full(256, jnp.inf), batch_size=8, share=False)
    pairs = [("a" * (1 + index % 30), "b") for index in range(400)]
    with pytest.raises(ValueError, match=r"(?s)^request 22 \(task animals, document 32\): .*\nand 94 more\n"):
        lm.loglikelihood(named_requests("loglikelihood", *pairs))
    assert lm.report()["requests"] == 0


def not_after(letter):
    """A bias that makes one logit NaN after a letter, so that the text is undefined."""
    return lambda last: jnp.where((last == ord(letter)) & (jnp.arange(256) == 7), jnp.nan, 0.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_are_undefined_where_logits_are_nan(temperature):
    lm = biased_lm(not_after("!"))
    prompts, options = (
        ["ab", "cd!", "ef"],
        {"temperature": temperature, "max_new_tokens": 5, "end_tokens": ()},
    )
    finished_at = []
    texts = windrow.generate(
        lm.model,
        lm.tokenizer,
        prompts,
        on_bad_request="skip",
        finished=lambda at, _: finished_at.append(at),
        **options,
    )
    assert texts.skipped.tolist() == [1]
    assert (texts.texts[1], texts.reasons[1], sorted(finished_at)) == ("", "skipped", [0, 2])
    alone = windrow.generate(lm.model, lm.tokenizer, ["ab", "ef"], **options)
    assert [texts.texts[0], texts.texts[2]] == alone.texts
    with pytest.raises(ValueError, match=r"^request 1: the model's logits are not numbers \(NaN\)"):
        windrow.generate(lm.model, lm.tokenizer, prompts, **options)


def test_generate_until_reports_undefined_texts():
    requests = requests_of("generate_until", *[(text, {"max_gen_toks": 4}) for text in ("ab", "cd!", "ef")])
    with pytest.raises(ValueError, match=r"request 1.*: the model's logits are not numbers"):
        biased_lm(not_after("!")).generate_until(requests)
    lm = biased_lm(not_after("!"), on_bad_request="skip")
    with pytest.warns(UserWarning, match="texts left empty: 1; the model's logits are not numbers"):
        texts = lm.generate_until(requests)
    assert [len(text) > 0 for text in texts] == [True, False, True]
    assert lm.report()["skipped"] == 1
