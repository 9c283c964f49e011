"""The host side of generation: keywords, ends of texts and the schedule; JaxLM's ``generate_until``."""

import json
import warnings
from collections import deque

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from jax.sharding import Mesh
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from tokenizers import decoders

from exhaustive import exhaustive
from windrow.generation import GenerationDefaults, Rules, Settings, read_defaults, read_settings
from windrow.generation.endings import Growing, StopStrings
from windrow.generation.sampling import limit_choice
from windrow.generation.schedule import FREE, Schedule
from windrow.harness import JaxLM

DEFAULTS = GenerationDefaults(end_tokens=(1,), top_k=40, top_p=0.9)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, Settings(256)),
        ({"until": "Q:", "max_tokens": 32}, Settings(32, ("Q:",))),
        ({"max_completion_tokens": 5, "max_tokens": 6, "max_new_tokens": 7, "max_gen_toks": 8}, Settings(8)),
        ({"max_completion_tokens": 5, "max_tokens": None, "max_new_tokens": "7"}, Settings(7)),
        ({"max_gen_toks": 7.0, "until": None}, Settings(7)),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.5}, Settings()),
        ({"temperature": 0.0, "do_sample": None, "top_k": 3}, Settings()),
        ({"temperature": 0.7}, Settings(temperature=0.7, top_k=40, top_p=0.9)),
        (
            {"do_sample": True, "temperature": 1, "top_k": 0, "top_p": 1.0, "until": ["a", ""]},
            Settings(256, ("a", ""), 1.0, 0, 1.0),
        ),
        ({"num_beams": 1, "use_cache": True, "repetition_penalty": 1.0}, Settings()),
        ({"min_p": 0.05, "typical_p": 0.4, "early_stopping": False, "length_penalty": 2.0}, Settings()),
        ({"temperature": "0.0"}, Settings()),
        ({"temperature": "0.7", "top_k": None, "top_p": None}, Settings(temperature=0.7)),
        ({"temperature": 0.7, "min_p": 0.0, "num_beams": None}, Settings(256, (), 0.7, 40, 0.9)),
        ({"eos_token_id": 3}, Settings(end_tokens=(3,))),
        ({"eos_token_id": [3, 4]}, Settings(end_tokens=(3, 4))),
        ({"eos_token_id": None}, Settings(end_tokens=())),
        ({"max_length": 40, "max_gen_toks": 8}, Settings(8, max_length=40)),
        (
            {"repetition_penalty": "1.5", "no_repeat_ngram_size": 3.0, "suppress_tokens": [4, -1]},
            Settings(
                rules=Rules(repetition_penalty=1.5, no_repeat_ngram_size=3, suppress_tokens=(4,)),
            ),
        ),
        (
            {"sequence_bias": [[[1, 2], 3.5]], "bad_words_ids": [[4]], "forced_eos_token_id": [1, 2]},
            Settings(
                rules=Rules(
                    sequence_bias=(((1, 2), 3.5),), bad_words_ids=((4,),), forced_eos_token_id=(1, 2)
                ),
            ),
        ),
    ],
)
def test_keywords(keywords, expected):
    assert read_settings(keywords, DEFAULTS) == expected


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, Settings(5, rules=Rules(repetition_penalty=1.2, min_length=9), reserved=256)),
        ({"max_gen_toks": 5}, Settings(5, rules=Rules(repetition_penalty=1.2, min_length=9))),
        (
            {"max_gen_toks": 7, "max_length": 90, "repetition_penalty": 1.3},
            Settings(5, rules=Rules(repetition_penalty=1.3, min_length=9), reserved=7),
        ),
        (
            {"repetition_penalty": None, "min_new_tokens": 2},
            Settings(5, rules=Rules(min_new_tokens=2, min_length=9), reserved=256),
        ),
    ],
)
def test_keywords_override_a_file(keywords, expected):
    rules = Rules(repetition_penalty=1.2, min_length=9)
    defaults = GenerationDefaults((1,), rules=rules, max_new_tokens=5, others={"typical_p": 0.5})
    assert read_settings(keywords, defaults) == expected


def test_unsupported_fields_are_refused():
    defaults = GenerationDefaults(others={"num_beams": 4, "min_p": 0.1}, source="generation_config.json")
    message = (
        r"generation_config.json: 'num_beams' is 4, which is not supported; only 1 is, unless the request "
        r"sets num_beams itself. Supported: max_gen_toks, "
    )
    with pytest.raises(ValueError, match=message):
        read_settings({}, defaults)
    assert read_settings({"num_beams": 1}, defaults) == Settings()
    with pytest.raises(ValueError, match=r"'min_p' is 0.1, which is not supported; only 0 is"):
        read_settings({"num_beams": 1, "temperature": 0.5}, defaults)
    assert read_settings({"num_beams": 1, "temperature": 0.5, "min_p": 0}, defaults).temperature == 0.5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_tok": 3}, "unknown generation keyword 'max_tok'; known: max_gen_toks, max_new_tokens"),
        ({"num_beams": 4}, "generation keyword 'num_beams' is 4, which is not supported; only 1 is"),
        ({"until": ["a", 3]}, "a stop string must be a string, not 3"),
        ({"until": 3}, "until must be a string or a list of strings, not int"),
        ({"max_gen_toks": 0}, "max_new_tokens must be a positive whole number, not 0"),
        ({"max_gen_toks": 2.5}, "not 2.5"),
        ({"max_gen_toks": "many"}, "not 'many'"),
        ({"max_gen_toks": True}, "not True"),
        ({"temperature": "hot"}, "temperature must be a number of at least 0, not 'hot'"),
        ({"temperature": float("inf")}, "not inf"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p must be a number above 0 and at most 1"),
        ({"temperature": 1.0, "top_k": 1.5}, "top_k must be a whole number"),
        ({"do_sample": "yes"}, "do_sample must be true or false, not 'yes'"),
        ({"do_sample": True}, "do_sample is true, but temperature is 0"),
        ("until", "generation keywords must be a mapping, not str"),
        ({"watermarking_config": {}}, "'watermarking_config' is {}, which is not supported; only None is"),
        ({"temperature": 0.5, "typical_p": 0.4}, "'typical_p' is 0.4, which is not supported; only 1 is"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number above 0, not 0"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size must be a whole number of at least 0, not 1.5"),
        ({"min_new_tokens": -1}, "min_new_tokens must be a whole number of at least 0, not -1"),
        ({"suppress_tokens": 3}, "suppress_tokens must be a list of token ids, not 3"),
        ({"bad_words_ids": [[]]}, "bad_words_ids must be a list of lists of token ids, none of them empty"),
        ({"sequence_bias": [[[1], "much"]]}, "sequence_bias must be a list of pairs, each a list of"),
        ({"exponential_decay_length_penalty": 3}, "exponential_decay_length_penalty must be a pair of"),
        ({"forced_bos_token_id": True}, "forced_bos_token_id must be a token id, not True"),
        ({"eos_token_id": "end"}, "eos_token_id must be a token id or a list of them, not 'end'"),
        ({"max_length": 0}, "max_length must be a positive whole number, not 0"),
    ],
)
def test_bad_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        read_settings(keywords, DEFAULTS)


def test_rules_are_checked():
    assert Rules(suppress_tokens=[3, 4], min_length=None) == Rules(suppress_tokens=(3, 4))
    with pytest.raises(ValueError, match="repetition_penalty must be a number above 0, not 0"):
        Rules(repetition_penalty=0)
    with pytest.raises(ValueError, match="suppress_tokens must be a list of token ids, not 5"):
        Rules(suppress_tokens=5)
    with pytest.raises(ValueError, match="suppress_tokens must be a list of token ids, not array"):
        Rules(suppress_tokens=np.array([3, 4]))


def test_defaults_from_a_directory(tmp_path):
    assert read_defaults(tmp_path, 3) == GenerationDefaults((3,))
    assert read_defaults(tmp_path, None) == GenerationDefaults()
    (tmp_path / "config.json").write_text('{"eos_token_id": 5, "top_k": 7}')
    assert read_defaults(tmp_path, 3) == GenerationDefaults((5,), 7)
    config = tmp_path / "generation_config.json"
    config.write_text('{"eos_token_id": [5, 6], "top_k": 7, "top_p": 0.5, "temperature": 0.6}')
    assert read_defaults(tmp_path, 3) == GenerationDefaults((5, 6), 7, 0.5)
    config.write_text("{}")
    assert read_defaults(tmp_path, 3) == GenerationDefaults()
    config.write_text('{"eos_token_id": "end"}')
    with pytest.raises(ValueError, match="'eos_token_id' must be a token id or a list of them, not 'end'"):
        read_defaults(tmp_path, 3)
    config.write_text("[")
    with pytest.raises(ValueError, match="is not JSON"):
        read_defaults(tmp_path, 3)
    config.write_text('{"repetition_penalty": 1.05, "max_new_tokens": 20, "suppress_tokens": null}')
    assert read_defaults(tmp_path, 3) == GenerationDefaults(
        rules=Rules(repetition_penalty=1.05), max_new_tokens=20
    )
    config.write_text('{"num_beams": 4, "forced_eos_token_id": 1, "sequence_bias": null, "own": 3}')
    assert read_defaults(tmp_path, 3) == GenerationDefaults(
        rules=Rules(forced_eos_token_id=(1,)), others={"num_beams": 4}
    )
    config.write_text('{"min_length": "long"}')
    with pytest.raises(ValueError, match=r"generation_config.json: min_length must be a whole number"):
        read_defaults(tmp_path, 3)
    config.write_text('{"max_new_tokens": 0}')
    with pytest.raises(ValueError, match=r"'max_new_tokens' must be a positive whole number, not 0"):
        read_defaults(tmp_path, 3)
    config.unlink()
    (tmp_path / "config.json").write_text('{"repetition_penalty": 1.5, "forced_eos_token_id": null}')
    assert read_defaults(tmp_path, 3) == GenerationDefaults(rules=Rules(repetition_penalty=1.5))


def test_incomplete_character_hides_no_stop_string():
    # Bytes of an incomplete character make the bytes next to them unreadable too.
    pieces = ["a", "<0x0A>", "<0xF0>", "x"]
    decode = decoders.ByteFallback().decode
    stops = StopStrings(("\n",), (3,), lambda tokens: decode([pieces[token] for token in tokens]))
    growing = Growing(Settings(9), stops, frozenset())
    growing.add(range(4))
    assert (growing.tokens, growing.reason) == ([0, 1], "stop")


PIECES = ["a", "b", "ab", "ba", "bb", "aab", "<x>", ""]


def decode(tokens):
    return "".join(PIECES[token] for token in tokens)


def naive_end(tokens, stops, reaches):
    """Checks after each token, as lm-eval's Hugging Face backend does."""
    for end in range(1, len(tokens) + 1):
        for stop, reach in zip(stops, reaches, strict=True):
            if stop in decode(tokens[max(0, end - reach) : end]):
                return end
    return len(tokens)


@given(
    some.lists(some.integers(0, len(PIECES) - 1), min_size=1, max_size=40),
    some.lists(some.text("ab<x>", min_size=1, max_size=5), max_size=3),
    some.lists(some.integers(1, 6), min_size=3, max_size=3),
    some.lists(some.integers(1, 9), min_size=40, max_size=40),
)
def test_texts_end_at_the_same_token_as_in_a_naive_loop(tokens, stops, reaches, portions):
    reaches = reaches[: len(stops)]
    watched = StopStrings(tuple(stops), tuple(reaches), decode)
    growing = Growing(Settings(len(tokens)), watched, frozenset())
    at = 0
    for portion in portions:
        growing.add([*tokens[at : at + portion], -1])
        at += portion
        if growing.reason is not None:
            break
    end = naive_end(tokens, stops, reaches)
    assert growing.tokens == tokens[:end]
    assert (growing.reason == "stop") == (
        end < len(tokens)
        or any(s in decode(tokens[max(0, end - r) :]) for s, r in zip(stops, reaches, strict=True))
    )
    expected = decode(tokens[:end])
    for stop in stops:
        expected = expected.split(stop)[0]
    assert watched.cut(decode(growing.tokens)) == expected


@given(
    some.sampled_from([1, 2, 4]),
    some.integers(1, 4),
    some.lists(some.tuples(some.integers(1, 30), some.integers(1, 40)), max_size=40),
    some.booleans(),
)
def test_every_request_gets_its_own_slot(groups, held, requests, shrinks):
    """Each request is a pair: its token limit, and the number of tokens after which it ends anyway."""
    slots = groups * held
    entering = max(groups, slots // 4 // groups * groups)
    schedule = Schedule(groups, slots, entering, deque(range(len(requests))))
    limits = [limit for limit, _ in requests]
    left = {}
    entered, finished, rounds = [], set(), 0
    while schedule.waiting or schedule.busy:
        while entries := schedule.enter(limits):
            assert (
                len({entry.row for entry in entries})
                == len({entry.slot for entry in entries})
                == len(entries)
            )
            for entry in entries:
                assert entry.row // (entering // groups) == entry.slot // held
                entered.append(entry.request)
                left[entry.request] = min(requests[entry.request])
        if shrinks and held >= 2 and schedule.slots == slots:
            before, local = schedule.owners.copy(), schedule.shrink(groups)
            if local is not None:
                assert not schedule.waiting
                assert [owner for owner in before if owner != FREE] == [
                    o for o in schedule.owners if o != FREE
                ]
                for group, at in enumerate(local):
                    assert schedule.owners[group] == (before[group * held + at] if at < held else FREE)
        owners = schedule.ask(8)
        in_slots = [owner for owner in owners if owner != FREE]
        assert len(set(in_slots)) == len(in_slots)
        for owner in owners:
            if owner != FREE and owner not in finished:
                left[owner] -= 8
                if left[owner] <= 0:
                    finished.add(owner)
                    schedule.leave(owner)
        rounds += 1
        assert rounds <= 6 * len(requests)
    assert entered == list(range(len(requests)))
    assert finished == set(entered)


def test_top_k_and_top_p_match_a_naive_loop():
    rng = np.random.default_rng(0)
    limit = jax.jit(limit_choice)
    for _ in range(200):
        logits = rng.integers(-4, 4, 12).astype(np.float32)
        top_k, top_p = int(rng.integers(0, 14)), float(rng.choice([0.05, 0.3, 0.7, 0.95, 1.0]))
        kept = np.isfinite(limit(logits, np.int32(top_k), np.float32(top_p)))
        ordered = np.sort(logits.astype(np.float64))[::-1]
        likely = ordered[ordered >= ordered[min(top_k or 12, 12) - 1]]
        shares = np.exp(likely) / np.exp(likely).sum()
        before = np.cumsum(shares) - shares
        least = likely[before < top_p + (top_p == 1)].min()
        if np.abs(before - top_p).min() > 1e-5:
            np.testing.assert_array_equal(kept, logits >= least)


@pytest.fixture(scope="session")
def llama(evals):
    one_device = Mesh(np.array(jax.devices()[:1]), ("data",))
    return JaxLM(pretrained=str(evals / "parity" / "tiny-llama"), batch_size=16, mesh=one_device)


def instances(*arguments):
    return [Instance("generate_until", {}, args, index) for index, args in enumerate(arguments)]


def test_generate_until_matches_recorded_results(evals, llama):
    lines = (evals / "parity" / "llama.jsonl").read_text().split("\n")
    cases = [json.loads(line) for line in lines if '"generate_until"' in line][-12:]
    arguments = [tuple(case["args"]) for case in cases]
    before = json.dumps(arguments)
    seen = []

    class Hook:
        def add_partial(self, kind, request, result):
            seen.append((kind, json.dumps(request), result))

    llama.set_cache_hook(Hook())
    results = llama.generate_until(instances(*arguments))
    assert results == [case["result"] for case in cases]
    assert json.dumps(arguments) == before
    expected = {
        ("generate_until", json.dumps(args), text) for args, text in zip(arguments, results, strict=True)
    }
    assert (len(seen), set(seen)) == (len(cases), expected)
    report = llama.report()["generation"]
    assert report["requests"] == report["stop"] + report["end"] + report["length"] == len(cases)
    assert 0 < report["slot_use"] <= 1
    assert report["programs"] <= 12
    assert report["generated_tokens"] >= len(cases)


def test_bad_requests_to_generate_until(llama):
    good = ("The cow", {"max_gen_toks": 4})
    bad = [
        ("The cow", {"max_gen_toks": 256}),
        ("The cow", {"max_gen_tokens": 4}),
        ("The cow", {"until": [3]}),
        (3, {"max_gen_toks": 4}),
    ]
    for request in bad:
        with pytest.raises(ValueError, match="request 1: "):
            llama.generate_until(instances(good, request))
    llama.on_bad_request = "skip"
    texts = llama.generate_until(instances(bad[0], good, *bad[1:]))
    llama.on_bad_request = "raise"
    assert texts == ["", llama.generate_until(instances(good))[0], "", "", ""]
    assert texts[1]


@pytest.mark.parametrize("limit", [8, exhaustive(100)])
def test_real_task_end_to_end(evals, llama, limit):
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        results = simple_evaluate(
            llama, tasks=["local_gsm8k"], task_manager=tasks, limit=limit, bootstrap_iters=0
        )
    assert 0 <= results["results"]["local_gsm8k"]["exact_match,flexible"] <= 1
    texts = [sample["resps"][0][0] for sample in results["samples"]["local_gsm8k"]]
    assert len(texts) == limit
    assert len(set(texts)) > limit // 2
    assert not any("\n\n" in text or "Question:" in text for text in texts)
