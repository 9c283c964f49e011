"""Segments match what lm_eval's own classes pass to a model; bad requests are rejected or skipped."""

import functools
import itertools
import warnings

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from trained_tokenizers import QUICK, random_texts
from windrow.tokens import (
    TokenReport,
    generation_prompts,
    load_tokenizer,
    loglikelihood_segments,
    rolling_segments,
)

TEXT = st.text(st.sampled_from("ab cd\n\t\x1f\u3000é<s>日🙂"), max_size=30)
MAX_LENGTHS = st.one_of(st.none(), st.integers(1, 40))


class Recorder(TemplateLM):
    """lm_eval's own base class with the package's tokenizer; records what reaches the model.

    Special tokens are added as in its Hugging Face backend: according to the argument, else to
    ``add_bos_token``, else by default unless the text starts with the text of the prefix token.
    """

    def __init__(self, backend, prefix_token_id, add_bos_token=None):
        super().__init__()
        self.backend_tokenizer, self.add_bos_token = backend, add_bos_token
        self._prefix_token_id = prefix_token_id
        self.prefix_text = backend.decode([prefix_token_id], skip_special_tokens=False)
        self.encode = functools.cache(
            lambda text, specials: backend.encode(text, add_special_tokens=specials).ids
        )

    @property
    def eot_token_id(self):
        return self._prefix_token_id

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        specials = add_special_tokens
        if specials is None:
            specials = self.add_bos_token is not False and not string.startswith(self.prefix_text)
        return self.encode(string, specials)

    def _loglikelihood_tokens(self, requests, **kwargs):
        self.seen = [(context, continuation) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


@functools.cache
def both(kind, add_bos_token=None):
    """A trained tokenizer, as used by lm_eval and by windrow."""
    theirs = QUICK[kind]()
    ours = load_tokenizer(theirs, add_bos_token=add_bos_token, prefix_token_id=0)
    return Recorder(theirs, 0, add_bos_token), ours


def seen_by_lm_eval(recorder, pairs):
    """Contexts and continuations, tokenized by lm_eval pair by pair; None where it fails."""
    seen = []
    for pair in pairs:
        try:
            recorder.loglikelihood([Instance("loglikelihood", {}, tuple(pair), 0)], disable_tqdm=True)
        except IndexError:
            seen.append(None)
        else:
            seen += recorder.seen
    return seen


def split(segments):
    return [segments.tokens[start:end].tolist() for start, end in itertools.pairwise(segments.offsets)]


def scorable(context, continuation, max_length):
    return context and 0 < len(continuation) <= (max_length or len(continuation))


def assert_as_lm_eval(segments, seen, max_length):
    """A segment is the end of context and continuation; its input is everything except the last token."""
    bad = [index for index, one in enumerate(seen) if one is None or not scorable(*one, max_length)]
    assert segments.skipped.tolist() == bad
    good = [(index, one) for index, one in enumerate(seen) if index not in set(bad)]
    assert segments.requests.tolist() == [index for index, _ in good]
    keep = -(max_length + 1) if max_length else None
    rows = [(context + continuation)[keep:] for _, (context, continuation) in good]
    assert np.array_equal(segments.offsets, np.cumsum([0, *map(len, rows)]))
    assert np.array_equal(segments.tokens, np.fromiter(itertools.chain(*rows), np.int32))
    starts = [len(row) - len(continuation) for row, (_, (_, continuation)) in zip(rows, good, strict=True)]
    assert segments.score_starts.tolist() == starts
    assert min(starts, default=1) >= 1
    cut = {
        i: len(c) + len(k) - len(r)
        for (i, (c, k)), r in zip(good, rows, strict=True)
        if len(c) + len(k) > len(r)
    }
    assert segments.report.truncated == cut


@pytest.mark.exhaustive
@pytest.mark.parametrize("model", ["tiny-gpt2", "tiny-llama"])
def test_local_requests_match_lm_eval(evals, local_suite, model):
    recorder, tokenizer = parity(evals, model)
    recorder.loglikelihood(local_suite, disable_tqdm=True)
    pairs = [request.args for request in local_suite]
    assert len(pairs) == 38_003
    for max_length in (None, 256):
        segments = loglikelihood_segments(tokenizer, pairs, max_length=max_length, on_bad_request="skip")
        assert len(segments.skipped) == (4 if (model, max_length) == ("tiny-llama", 256) else 0)
        assert_as_lm_eval(segments, recorder.seen, max_length)


@functools.cache
def parity(evals, model):
    backend = tokenizers.Tokenizer.from_file(str(evals / "parity" / model / "tokenizer.json"))
    tokenizer = load_tokenizer(evals / "parity" / model)
    return Recorder(backend, tokenizer.bos_token_id), tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "llama2", "bert-cased"])
@pytest.mark.parametrize("add_bos_token", [None, False])
@settings(max_examples=150, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), max_size=6), max_length=MAX_LENGTHS)
def test_random_pairs_match_lm_eval(kind, add_bos_token, pairs, max_length):
    recorder, tokenizer = both(kind, add_bos_token)
    segments = loglikelihood_segments(tokenizer, pairs, max_length=max_length, on_bad_request="skip")
    assert_as_lm_eval(segments, seen_by_lm_eval(recorder, pairs), max_length)


def windows_of_lm_eval(recorder, texts, max_length):
    """For each window of each text: the request, the whole sequence, and the number of scored tokens."""
    for request, text in enumerate(texts):
        tokens = recorder.tok_encode(text)
        length = max_length or max(1, len(tokens))
        for window in get_rolling_token_windows(tokens, recorder.prefix_token_id, length, context_len=1):
            context, continuation = make_disjoint_window(window)
            yield request, context + continuation, len(context)


def assert_windows(segments, recorder, texts, max_length):
    expected = list(windows_of_lm_eval(recorder, texts, max_length))
    assert split(segments) == [row for _, row, _ in expected]
    assert segments.requests.tolist() == [request for request, _, _ in expected]
    assert segments.score_starts.tolist() == [start for _, _, start in expected]
    assert segments.request_count == len(texts)


@pytest.mark.parametrize("kind", ["gpt2", "llama3"])
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXT, max_size=4), max_length=MAX_LENGTHS)
def test_random_windows_match_lm_eval(kind, texts, max_length):
    recorder, tokenizer = both(kind)
    assert_windows(rolling_segments(tokenizer, texts, max_length=max_length), recorder, texts, max_length)


@pytest.mark.parametrize(
    "max_length", [256, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (None, 1024))]
)
@pytest.mark.parametrize("model", ["tiny-llama", pytest.param("tiny-gpt2", marks=pytest.mark.exhaustive)])
def test_windows_of_local_articles_match_lm_eval(evals, model, max_length):
    recorder, tokenizer = parity(evals, model)
    texts = [request.args[0] for request in local_requests(evals, "local_wikitext2")]
    segments = rolling_segments(tokenizer, texts, max_length=max_length)
    assert_windows(segments, recorder, texts, max_length)
    scored = np.bincount(segments.requests, np.diff(segments.offsets) - segments.score_starts, len(texts))
    assert scored.tolist() == [len(recorder.tok_encode(text)) for text in texts]


@functools.cache
def local_requests(evals, task):
    from lm_eval.tasks import TaskManager, get_task_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manager = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
        (task,) = get_task_dict([task], manager).values()
        task.build_all_requests(limit=None, rank=0, world_size=1)
    return task.instances


@pytest.mark.parametrize(("model", "bos"), [("tiny-gpt2", "<|endoftext|>"), ("tiny-llama", "<s>")])
def test_prompts_of_local_questions(evals, model, bos):
    recorder, tokenizer = parity(evals, model)
    contexts = [request.args[0] for request in local_requests(evals, "local_gsm8k")]
    contexts += [bos + context for context in contexts[:50]]
    new = [16 + index % 200 for index in range(len(contexts))]
    prompts = generation_prompts(tokenizer, contexts, max_length=256, max_new_tokens=new)
    rows = [recorder.encode(text, not text.startswith(bos)) for text in contexts]
    assert split(prompts) == [row[-(256 - count) :] for row, count in zip(rows, new, strict=True)]
    assert not prompts.score_starts.any()
    assert len(prompts.report.truncated) > 0


def test_prompts_recognize_the_bos_token_by_its_text():
    theirs, _ = both("llama3")
    ours = load_tokenizer(theirs.backend_tokenizer, prefix_token_id=1)
    assert ours.bos_token_id is None
    prompts = generation_prompts(ours, ["</s>a", "<s>a"], max_new_tokens=1)
    assert split(prompts) == [theirs.encode(text, True) for text in ("</s>a", "<s>a")]


def test_context_and_continuation_encoded_separately():
    recorder, tokenizer = both("llama3")
    pairs = [("The cow ", "eats"), ("The cow", " eats"), ("", "eats")]
    segments = loglikelihood_segments(tokenizer, pairs, encode_apart=True)
    encode = recorder.encode
    expected = [
        encode("The cow ", True) + encode("eats", False),
        encode("The cow", True) + encode(" eats", False),
    ]
    assert split(segments) == [*expected, [0, *encode("eats", False)]]
    starts = [len(encode("The cow ", True)), len(encode("The cow", True)), 1]
    assert segments.score_starts.tolist() == starts


def long_continuation():
    return "x " * 50


BAD_PAIRS = [
    (("a", ""), r"its continuation encodes to no token"),
    (("", ""), r"its continuation encodes to no token"),
    (("", "<s>"), r"its continuation encodes to no token"),
    ((" ", "b"), r"its context encodes to no token"),
    (
        ("a", long_continuation()),
        r"its continuation has \d+ tokens, but the model takes at most 16 \(max_length\)",
    ),
    (("a", 3), r"its continuation must be a string, not int"),
    ((None, "b"), r"its context must be a string, not NoneType"),
    (("a\udfff", "b"), r"its context contains a lone surrogate"),
    (("a", "b", "c"), r"must be a pair of context and continuation, not 3 values"),
    (("a",), r"must be a pair of context and continuation, not 1 value"),
    ("ab", r"must be a pair of context and continuation, not str"),
    (7, r"must be a pair of context and continuation, not int"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_PAIRS)
def test_bad_pairs_are_named_by_number_and_text(bad, message):
    tokenizer = both("gpt2")[1]
    pairs = [("fine", " too"), bad]
    shown = repr(bad)[:30].replace("\\", "\\\\").replace("(", r"\(").replace("'", "['\"]")
    with pytest.raises(ValueError, match=f"request 1: ({message}).*it starts with {shown[:12]}"):
        loglikelihood_segments(tokenizer, pairs, max_length=16)


@pytest.mark.parametrize(("bad", "message"), BAD_PAIRS)
def test_bad_pairs_are_left_out_and_reported(bad, message):
    tokenizer = both("gpt2")[1]
    good = [("fine", " too"), ("also", " good")]
    segments = loglikelihood_segments(
        tokenizer, [good[0], bad, good[1]], max_length=16, on_bad_request="skip"
    )
    alone = loglikelihood_segments(tokenizer, good, max_length=16)
    assert segments.skipped.tolist() == [1]
    assert segments.requests.tolist() == [0, 2]
    assert segments.request_count == 3
    assert split(segments) == split(alone)
    assert list(segments.report.skipped) == [1]
    assert "request 1 was skipped: its" in str(segments.report) or "must be a pair" in str(segments.report)


def test_many_bad_pairs_raise_one_error():
    pairs = [("a", "")] * 25
    with pytest.raises(
        ValueError, match=r"request 0: .*\n(.*\n)*and 15 more\n.*on_bad_request=\"skip\""
    ) as error:
        loglikelihood_segments(both("gpt2")[1], pairs)
    assert str(error.value).count("request ") == 10 + 0


def test_bad_texts_and_contexts_are_refused():
    tokenizer = both("gpt2")[1]
    with pytest.raises(
        ValueError, match=r"request 1: its text must be a string, not tuple; it starts with \('a',\)"
    ):
        rolling_segments(tokenizer, ["a", ("a",)])
    with pytest.raises(ValueError, match="request 0: its context encodes to no token"):
        generation_prompts(tokenizer, [""], max_new_tokens=1)
    with pytest.raises(ValueError, match="request 1: generating 9 tokens leaves no room for its context"):
        generation_prompts(tokenizer, ["a", "b"], max_length=9, max_new_tokens=[8, 9])
    skipped = generation_prompts(tokenizer, ["", "b"], max_new_tokens=1, on_bad_request="skip")
    assert skipped.skipped.tolist() == [0]


def test_empty_contexts_need_a_prefix_token():
    tokenizer = load_tokenizer(QUICK["gpt2"]())
    assert tokenizer.prefix_token_id is None
    assert len(loglikelihood_segments(tokenizer, [("a", " b")])) == 1
    with pytest.raises(ValueError, match=r"request 0: .*neither a BOS nor an EOS.*prefix_token_id"):
        loglikelihood_segments(tokenizer, [("", "b")])
    with pytest.raises(ValueError, match=r"request 0: .*neither a BOS nor an EOS.*prefix_token_id"):
        rolling_segments(tokenizer, ["b"])


@pytest.mark.parametrize("max_length", [0, -1, 2.5, True, "8"])
def test_bad_max_length_is_refused(max_length):
    tokenizer = both("gpt2")[1]
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, or None"):
        loglikelihood_segments(tokenizer, [("a", " b")], max_length=max_length)


def test_bad_arguments_are_refused():
    tokenizer = both("gpt2")[1]
    with pytest.raises(ValueError, match="on_bad_request must be 'raise' or 'skip', not 'drop'"):
        loglikelihood_segments(tokenizer, [("a", " b")], on_bad_request="drop")
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, not 0"):
        generation_prompts(tokenizer, ["a"], max_new_tokens=0)
    with pytest.raises(ValueError, match="max_new_tokens has 2 elements for 1 contexts"):
        generation_prompts(tokenizer, ["a"], max_new_tokens=[1, 1])


def test_no_requests():
    tokenizer = both("gpt2")[1]
    for segments in (
        loglikelihood_segments(tokenizer, []),
        rolling_segments(tokenizer, []),
        rolling_segments(tokenizer, [""]),
        generation_prompts(tokenizer, [], max_new_tokens=1),
    ):
        assert len(segments) == 0
        assert segments.offsets.tolist() == [0]
        assert (segments.tokens.dtype, segments.offsets.dtype) == (np.int32, np.int64)
        assert (segments.score_starts.dtype, segments.requests.dtype) == (np.int32, np.int64)


def test_pairs_may_be_in_any_sequence():
    tokenizer = both("gpt2")[1]
    pairs = [("The cow", " eats"), ("The cow", " sleeps")]
    for given_pairs in (tuple(pairs), [list(pair) for pair in pairs]):
        assert split(loglikelihood_segments(tokenizer, given_pairs)) == split(
            loglikelihood_segments(tokenizer, pairs)
        )


def test_report():
    recorder, tokenizer = both("llama3")
    pairs = [("The cow", " eats"), ("The cow", " sleeps"), ("a " * 50, "b"), ("The cow", " eats"), ("a", "")]
    segments = loglikelihood_segments(tokenizer, pairs, max_length=20, on_bad_request="skip")
    report = segments.report
    assert isinstance(report, TokenReport)
    assert (report.requests, report.segments) == (5, 4)
    assert report.texts == 8
    # Three texts of the cow, two of the long pair, and "a", which is both context and whole.
    assert report.encoded_texts == 6
    long = len(recorder.encode("a " * 50 + "b", True))
    assert report.truncated == {2: long - 21}
    assert next(iter(report.longest.items())) == (2, 21)
    assert str(report).count("\n") >= 3
    assert "1 requests were truncated" in str(report)


def test_equal_contexts_are_encoded_once():
    tokenizer = both("gpt2")[1]
    context = "A long question. " * 5
    pairs = [(context, f" {choice}") for choice in "abcd"]
    assert loglikelihood_segments(tokenizer, pairs).report.encoded_texts == 5
    assert rolling_segments(tokenizer, ["same", "same", "other"]).report.encoded_texts == 2


def test_many_random_pairs_in_one_call_match_lm_eval():
    recorder, tokenizer = both("gpt2")
    texts = list(random_texts(400, seed=3))
    pairs = list(zip(texts[:200], texts[200:], strict=True))
    segments = loglikelihood_segments(tokenizer, pairs, max_length=30, on_bad_request="skip")
    assert_as_lm_eval(segments, seen_by_lm_eval(recorder, pairs), 30)
