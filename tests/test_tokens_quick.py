"""Rewriting a tokenizer.json for the quick encoder does not change its results."""

import json
from itertools import pairwise

import pytest
import tokenizers
from tokenizers import AddedToken, pre_tokenizers

from tiny_tokenizers import marked_pairs
from trained_tokenizers import ADVERSARIAL, metaspace, random_texts
from windrow.tokens import load_tokenizer
from windrow.tokens.quick import in_quick_words

PLAIN = ["[INST]", "x[INST]y", " [INST] cow[/INST]", "[INST][INST]", "a [INST", "▁[INST]▁"]


def with_instructions(scheme, whole):
    made = metaspace(scheme, whole)
    made.add_tokens([AddedToken("[INST]", normalized=True), AddedToken("[/INST]", normalized=True)])
    return made


def in_a_sequence(scheme, whole):
    made = with_instructions(scheme, whole)
    made.pre_tokenizer = pre_tokenizers.Sequence([made.pre_tokenizer])
    return made


@pytest.mark.parametrize("make", [with_instructions, in_a_sequence])
@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("whole", [True, False])
def test_marked_spaces_with_byte_fallback_use_the_quick_encoder(make, scheme, whole):
    theirs = make(scheme, whole)
    ours = load_tokenizer(tokenizers.Tokenizer.from_str(theirs.to_str()))  # a warning would be an error
    texts = [*PLAIN, *ADVERSARIAL, *random_texts(300)]
    assert not ours.encoder.left(PLAIN)
    for specials in (True, False):
        tokens, offsets = ours.encode_batch(texts, add_special_tokens=specials)
        got = [tokens[start:end].tolist() for start, end in pairwise(offsets)]
        expected = theirs.encode_batch_fast(texts, add_special_tokens=specials)
        assert got == [encoding.ids for encoding in expected]


def test_byte_fallback_without_byte_tokens_is_removed():
    model = {"type": "BPE", "byte_fallback": True, "vocab": {"a": 0}, "merges": []}
    assert in_quick_words({"model": model})["model"] == {**model, "byte_fallback": False}
    model["vocab"]["<0x41>"] = 1
    assert in_quick_words({"model": model})["model"] == model


@pytest.mark.parametrize(
    ("raw", "normalized", "apart"),
    [
        ("<s>", "[INST]", True),
        ("ab", "bc", False),
        ("bc", "ab", False),
        ("abc", "b", False),
        ("b", "abc", False),
        ("ab", "ab", False),
    ],
)
def test_overlapping_added_tokens_are_unchanged(raw, normalized, apart):
    added = [{"content": raw, "normalized": False}, {"content": normalized, "normalized": True}]
    changed = in_quick_words({"added_tokens": added})["added_tokens"]
    assert (changed != added) == apart


def test_supported_tokenizer_is_unchanged():
    written = json.loads(marked_pairs().to_str())
    assert in_quick_words(written) == written
