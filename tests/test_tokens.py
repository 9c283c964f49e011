"""The tokens match those of the ``tokenizers`` package, for every kind of tokenizer and text."""

import functools
import itertools
import json
import os
import pickle
import subprocess
import sys
import textwrap
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from exhaustive import exhaustive, quick
from trained_tokenizers import ADVERSARIAL, QUICK, SLOW, random_texts
from windrow.tokens import load_tokenizer

PARITY = ["tiny-gpt2", "tiny-llama", "tiny-mamba"]


@functools.cache
def trained(kind):
    """The package's tokenizer of this kind and ours."""
    theirs = {**QUICK, **SLOW}[kind]()
    if kind in QUICK:
        return theirs, load_tokenizer(theirs)
    with pytest.warns(UserWarning, match="uses the tokenizers package") as caught:
        ours = load_tokenizer(theirs)
    assert len(caught) == 1
    return theirs, ours


def rows(ragged):
    tokens, offsets = ragged
    assert tokens.dtype == np.int32
    assert offsets.dtype == np.int64
    return [tokens[start:end].tolist() for start, end in itertools.pairwise(offsets)]


def assert_same(theirs, ours, texts):
    for specials in (False, True):
        expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=specials)]
        assert rows(ours.encode_batch(texts, add_special_tokens=specials)) == expected


@pytest.fixture(scope="module")
def hard_texts():
    return [*ADVERSARIAL, *random_texts(1000)]


@pytest.mark.parametrize("kind", [*QUICK, *SLOW])
def test_adversarial_and_random_texts(kind, hard_texts):
    assert_same(*trained(kind), hard_texts)


@pytest.mark.parametrize("kind", QUICK)
def test_quick_kinds_are_encoded_in_rust(kind):
    texts = [text for text in ADVERSARIAL if text.isascii()]
    assert trained(kind)[1].encoder.left(texts) == []


@pytest.mark.parametrize("kind", SLOW)
def test_other_kinds_use_the_package(kind):
    assert trained(kind)[1].encoder.left(["a", "b"]) == [0, 1]


@pytest.mark.parametrize("kind", QUICK)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=4))
def test_generated_strings(kind, texts):
    assert_same(*trained(kind), texts)


def is_recent(code):
    """Whether a code point was assigned after Unicode 3.2, or is not assigned in this Python's tables."""
    return unicodedata.ucd_3_2_0.category(chr(code)) == "Cn"


UNICODE = (
    *("gpt2", "qwen2", "bert-cased", "llama3", "qwen3.5", "not-han", "nfkc-lowercase", "nfd-strip-accents"),
    "word-level",
)


@pytest.mark.parametrize("kind", quick(UNICODE, ["gpt2", "bert-cased"]))
def test_recently_added_characters(kind):
    """Boundaries of letters, digits, marks and spaces, where versions of the Unicode tables differ."""
    planes = [
        *range(0x80, 0xD800),
        *range(0xF900, 0x10000),
        *range(0x10000, 0x14700),
        *range(0x16100, 0x18D80),
    ]
    planes += [*range(0x1AFF0, 0x1FC00), *range(0x2EBF0, 0x2EE60), *range(0x323B0, 0x33480, 16)]
    forms = [f"a{chr(c)}b{chr(c)}1 {chr(c)}\u0323{chr(c)}\u0301!" for c in planes if is_recent(c)]
    texts = ["".join(forms[start : start + 8]) for start in range(0, len(forms), 8)]
    theirs, ours = trained(kind)
    expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    assert rows(ours.encode_batch(texts, add_special_tokens=False)) == expected


@pytest.mark.exhaustive
@pytest.mark.parametrize("model", PARITY)
def test_all_evaluation_texts(evals, model):
    theirs = tokenizers.Tokenizer.from_file(str(evals / "parity" / model / "tokenizer.json"))
    ours = load_tokenizer(theirs)
    texts = sorted({text for path in (evals / "data").glob("*.jsonl") for text in strings(path)})
    assert len(texts) > 20_000
    assert len(ours.encoder.left(texts)) <= 1  # one text has a letter on which versions of Unicode disagree
    tokens, offsets = ours.encode_batch(texts, add_special_tokens=True)
    expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts)]
    np.testing.assert_array_equal(np.diff(offsets), [len(row) for row in expected])
    np.testing.assert_array_equal(tokens, np.concatenate(expected))


def strings(path):
    """Every string in a file of JSON lines."""

    def walk(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                yield from walk(part)

    for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
        yield from walk(json.loads(line))


def test_ten_megabytes_in_one_string():
    theirs, ours = trained("llama3")
    piece = "".join(text for text in random_texts(300) if not ours.encoder.left([text]))
    text = piece * (10_000_000 // len(piece.encode()) + 1)
    tokens, offsets = ours.encode_batch([text, "after"], add_special_tokens=False)
    assert len(text.encode()) >= 10_000_000
    assert theirs.decode(tokens[: offsets[1]].tolist(), skip_special_tokens=False) == text
    one = theirs.encode(piece, add_special_tokens=False).ids
    assert tokens[: len(one) // 2].tolist() == one[: len(one) // 2]
    assert tokens[offsets[1] :].tolist() == theirs.encode("after", add_special_tokens=False).ids


def test_special_tokens_are_added_text_by_text():
    _, ours = trained("llama3")
    named = load_tokenizer(trained("llama3")[0], prefix_token_id=0)
    assert named.prefix_text == "<s>"
    plain, begun = named.encode("cow"), named.encode("<s>cow")
    assert plain[0] == begun[0] == 0
    assert begun == plain
    assert ours.encode("<s>cow") == [0, *plain]  # without a prefix token, always added
    assert named.encode("<s>cow", add_special_tokens=True) == [0, *plain]
    assert named.encode("cow", add_special_tokens=False) == plain[1:]


def test_empty_prefix_text_suppresses_special_tokens():
    """Every text starts with the empty string; lm_eval 0.4.13's ``HFLM.tok_encode`` does the same."""
    theirs = QUICK["llama2"]()
    theirs.decoder = tokenizers.decoders.Metaspace()
    ours = load_tokenizer(theirs, prefix_token_id=theirs.token_to_id("▁"))
    assert ours.prefix_text == ""
    assert ours.encode("cow") == theirs.encode("cow", add_special_tokens=False).ids
    assert ours.encode("cow", add_special_tokens=True) == theirs.encode("cow").ids


def test_repeated_texts():
    theirs, ours = trained("gpt2")
    texts = ["one", "two", "one", "", "two", ""]
    assert rows(ours.encode_batch(texts)) == [theirs.encode(text).ids for text in texts]


def test_no_texts():
    tokens, offsets = trained("gpt2")[1].encode_batch([])
    assert tokens.shape == (0,)
    assert offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", "x\ud800y"], r"texts\[1\]: its text contains a lone surrogate.*'x\\ud800y'"),
        (["fine", "fine", 3], r"texts\[2\]: its text must be a string, not int; it is 3"),
        ([b"bytes"], r"texts\[0\]: its text must be a string, not bytes"),
    ],
)
def test_values_that_are_not_texts_are_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        trained("gpt2")[1].encode_batch(texts)


def test_texts_that_are_not_a_sequence_are_refused():
    with pytest.raises(TypeError):
        trained("gpt2")[1].encode_batch(7)


def test_subclasses_of_str_are_accepted():
    theirs, ours = trained("gpt2")
    texts = np.array(["numpy's own", "strings"])
    assert rows(ours.encode_batch(texts)) == [theirs.encode(str(text)).ids for text in texts]


@pytest.mark.parametrize("kind", ["gpt2", "llama2", "bert-cased"])
def test_decoding(kind):
    theirs, ours = trained(kind)
    for text in ["The cow eats.", "<s>a</s>b", "naïve 日本"]:
        ids = theirs.encode(text).ids
        for skip in (False, True):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_pickling():
    ours = load_tokenizer(trained("llama3")[0], prefix_token_id=0)
    again = pickle.loads(pickle.dumps(ours))
    assert again.encode("The cow") == ours.encode("The cow")
    assert again.fingerprint == ours.fingerprint


def test_fingerprint_depends_on_tokenizer_and_settings():
    theirs = trained("llama3")[0]
    prints = {
        load_tokenizer(theirs).fingerprint,
        load_tokenizer(theirs, prefix_token_id=1).fingerprint,
        load_tokenizer(theirs, add_bos_token=False).fingerprint,
        load_tokenizer(trained("qwen2")[0]).fingerprint,
    }
    assert len(prints) == 4
    assert load_tokenizer(theirs).fingerprint in prints


FORKING = """
    import os, sys, threading, time
    from windrow import _rust

    def no_one(texts, specials):
        raise AssertionError(texts)

    encoder = _rust.Encoder(sys.stdin.read(), no_one)
    busy = True

    def encode():
        while busy:
            _rust.encode_texts(encoder, [f"a{number}" for number in range(3000)], True, None)

    threads = [threading.Thread(target=encode) for _ in range(2)]
    for thread in threads:
        thread.start()
    texts = ["hello world " * 50 + str(number) for number in range(300)]
    expected = _rust.encode_texts(encoder, texts, True, None)[0].tolist()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            for _ in range(3):
                same = _rust.encode_texts(encoder, texts, True, None)[0].tolist() == expected
            os._exit(0 if same else 1)
        deadline = time.monotonic() + 30
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        if ended != (child, 0):
            os.kill(child, 9) if ended == (0, 0) else None
            busy = False
            sys.exit(f"a forked child ended with {ended}")
    busy = False
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("parallelism", [exhaustive("false"), "true"])
def test_forked_children_encode_while_the_parent_encodes(parallelism):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKING)],
        input=trained("gpt2")[0].to_str(),
        env={**os.environ, "TOKENIZERS_PARALLELISM": parallelism},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
