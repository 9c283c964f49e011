"""Checks windrow's own encoder against the ``tokenizers`` package.

Texts are encoded in Rust by a newer release of the ``tokenizers`` library than the Python package. Before the
Rust encoder is used for a tokenizer, both encode a sample of unusual texts. If they differ at all, the
package encodes everything.

The sample is fixed, except for texts that depend on the tokenizer: its added tokens in
several contexts, and tokens from its whole vocabulary.
"""

import json
from collections.abc import Iterator
from itertools import chain

import numpy as np

from windrow import _rust
from windrow.tokens.parts import Encode, Parts
from windrow.tokens.quick import quick_forms
from windrow.warning import warn

ODD_TEXTS = (
    *("", " ", "  ", "\n", "\r\n", "\t", "\x00", "\x1c\x1f", "\x7f\x80\x9f", "\u3000", "\u200b", "\ufeff"),
    *(" \n \n\n  x", "x   y    z ", "  lead", "trail  ", "a\u00a0b\u2003c\u0085d\u2028e", "a\u00adb"),
    *("A", "aB", "camelCaseWORDandMore", "snake_case_and-dash", "x" * 300, "ab" * 200, " " * 200, "\n" * 100),
    *(
        "I'll we've it's don't 'S 'LL ''ll a'b's",
        "\u017fs 's'T'Re",
        "it\u2019s \u201cquoted\u201d \u2014 \u2026",
    ),
    *("!?.,;:()[]{}<>/\\|@#$%^&*~`\"'+-=_", "a!!b??  ..c", "https://example.org/a?b=c&d=e#f", "foo@bar.com"),
    *(
        "3.14159 1,000,000 -17 1e-9 0x1F 12:30 50% $9.99",
        "1234567890123",
        "\uff11\uff12\uff13 \u00b2\u00b3 \u2163",
    ),
    *(
        "\u00e9 e\u0301 \u00c5 A\u030a q\u0323\u0307 q\u0307\u0323 a\u0300\u0301\u0302b",
        "\ufb01 \u00bd \u2460 \ufdfa",
    ),
    *(
        "\u0130 \u0131 \u00df \u1e9e \u017f \u03a3\u03b1\u03c2 \u03a3\u0391\u03a3",
        "Stra\u00dfe caf\u00e9 na\u00efve",
    ),
    *("\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u0440\u0443\u0441\u0441\u043a\u0438\u0439",),
    *("\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c"),
    *(
        "\u4e2d\u6587\uff0c\u5b57\u7b26\u3002\u3007\u2e80",
        "\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8\uff83\uff7d\uff84",
    ),
    *(
        "\ud55c\uad6d\uc5b4 \uac00\u1100\u1161\u11a8",
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    ),
    *(
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f468\U0001f3fd\u200d\U0001f680",
        "\U0001f1e9\U0001f1ea \u2764\ufe0f",
    ),
    *(
        "\U0001d504\U0001d4cf \U0001d7d8",
        "\ue000\U000f0000\U0010ffff\ufffd\uffff",
        "\u2581\u2581a \u0120\u010a",
    ),
    *(
        "<s></s><unk><pad>",
        "[CLS] [SEP][MASK]",
        "<|endoftext|> <|im_start|>user\n",
        "<0x41><0xE2>",
        "<S> </ s>",
    ),
    "def f(x):\n    if x > 0:\n\t\treturn x ** 2  # comment\n\n\nclass A: pass\n",
    '{"key": [1, 2.5, null, "v\\n"], "other": {"a": true}}',
    "The quick brown fox jumps over the lazy dog. Question: Who was it?\nAnswer: Nobody knows; perhaps she!",
)

_VOCABULARY_TEXTS = 64
"""The number of texts that consist of tokens from the whole vocabulary."""

_TOKENS_EACH = 16

_ADDED_TOKENS = 40
"""The number of added tokens that are checked; some tokenizers have hundreds of reserved ones."""


def check_encoder(parts: Parts) -> _rust.Encoder:
    """The quick encoder if it agrees with the tokenizer's own library, else one that calls that library."""
    if parts.json is None:
        return _rust.Encoder(None, parts.encode)
    tokenizer = json.loads(parts.json)
    if tokenizer["model"].get("type") == "Unigram":
        # Two segmentations can have the same score up to rounding, and the libraries may pick different ones.
        return _through_the_package(parts, "it may break ties between equal scores differently")
    reason = ""
    for form, pattern in quick_forms(tokenizer):
        try:
            quick = _rust.Encoder(json.dumps(form), parts.encode, pattern)
        except ValueError as error:
            reason = str(error)
            continue
        reason = _first_difference(quick, parts.encode, list(sample_texts(parts)))
        if not reason:
            return quick
    return _through_the_package(parts, reason)


def _through_the_package(parts: Parts, reason: str) -> _rust.Encoder:
    warn(
        f"tokenizer {parts.name!r} uses the tokenizers package, which is slower: "
        f"windrow's own encoder does not give identical results ({reason})"
    )
    return _rust.Encoder(None, parts.encode)


def sample_texts(parts: Parts) -> Iterator[str]:
    """Texts that are likely to show differences between two tokenizers."""
    yield from ODD_TEXTS
    yield "".join(map(chr, range(128)))
    yield " ".join(f"{chr(c)}a{chr(c)}{chr(c)}" for c in range(33, 127))
    yield " ".join(str(number) for number in (*range(0, 2000, 3), *range(2000, 10_000, 19)))
    yield " ".join("7" * count for count in range(1, 20))
    added = parts.added_tokens
    half = _ADDED_TOKENS // 2
    for token in dict.fromkeys([*added[:half], *added[-half:]]):
        yield from (
            token,
            f" {token} ",
            f"a{token}b",
            f"A {token}  {token}{token}\n",
            token.upper(),
            token[:-1],
        )
    size = parts.vocab_size or 0
    picks = np.linspace(0, size - 1, min(size, _VOCABULARY_TEXTS * _TOKENS_EACH)).astype(int).tolist()
    pieces = [parts.decode([pick], False) for pick in picks] if parts.decode else []
    for start in range(0, len(pieces), _TOKENS_EACH):
        yield " ".join(pieces[start : start + _TOKENS_EACH])
        yield "".join(pieces[start::_VOCABULARY_TEXTS])


def _first_difference(quick: _rust.Encoder, encode: Encode, texts: list[str]) -> str:
    """The first difference between the encoders; empty if there is none."""
    for index in quick.left(texts):
        if texts[index].isascii():
            return f"it cannot encode {texts[index][:40]!r}"
    for add_special_tokens in (True, False):
        tokens, offsets, *_ = _rust.encode_texts(quick, texts, add_special_tokens, None)
        rows = encode(texts, add_special_tokens)
        refused = next((row for row in rows if isinstance(row, str)), None)
        if refused is not None:
            return f"the package rejects a text: {refused}"
        starts = np.cumsum([0, *map(len, rows)])
        if np.array_equal(offsets, starts) and np.array_equal(tokens, np.fromiter(chain(*rows), np.int32)):
            continue
        for text, row, start, end in zip(texts, rows, offsets, offsets[1:], strict=False):
            if tokens[start:end].tolist() != row:
                return f"it encodes {text[:40]!r} differently"
    return ""
