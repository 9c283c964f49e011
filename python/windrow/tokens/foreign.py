"""Tokenizers of other libraries: anything with ``encode(text)`` that gives token ids."""

import inspect
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from windrow.tokens.parts import Decode, Encode, Parts, sane_limit

_ROLES = ("bos_token", "eos_token", "pad_token")

_SHOWN = 80
"""How much of what a tokenizer gave is shown in an error."""

_PROBES = ("a", "Plain text, 0123.", " before", "after ", "\n\n", "na\u00efve, \u65e5\u672c\u8a9e \U0001f642")
"""What tells one tokenizer from another."""


def foreign_parts(tokenizer: Any) -> Parts:
    """Describes an object that can encode one text at a time.

    What it has of ``decode``, ``vocab_size`` (or ``n_vocab``), ``bos_token_id``, ``eos_token_id`` (or
    ``eot_token``), ``pad_token_id``, ``chat_template`` and ``model_max_length`` is used. Whether special
    tokens are added is left to it unless its ``encode`` takes ``add_special_tokens``.

    Raises:
        TypeError: The object has no ``encode``.
    """
    if not callable(getattr(tokenizer, "encode", None)):
        raise TypeError(
            "source must be a path, a name on the hub, a tokenizers.Tokenizer, a transformers tokenizer, "
            f"or an object with encode(text) -> list[int], not {type(tokenizer).__name__}"
        )
    name = str(
        getattr(tokenizer, "name_or_path", "") or getattr(tokenizer, "name", "") or type(tokenizer).__name__
    )
    warnings.warn(
        f"tokenizer {name!r} encodes in Python, one text at a time, which is slow; "
        "from its tokenizer.json, if it has one, texts are encoded on every core",
        stacklevel=4,
    )
    encode = _encode_function(tokenizer)
    ids = {role: getattr(tokenizer, f"{role}_id", None) for role in _ROLES}
    if ids["eos_token"] is None:
        ids["eos_token"] = getattr(tokenizer, "eot_token", None)
    known = {role: int(token) for role, token in ids.items() if token is not None}
    texts = {role: getattr(tokenizer, role, None) for role in _ROLES}
    size = _vocab_size(tokenizer)
    return Parts(
        name=name,
        vocab_size=size,
        encode=encode,
        decode=_decode_function(tokenizer, set(known.values())),
        identity=repr((name, size, encode(list(_PROBES), True))),
        ids=known,
        texts={role: str(text) for role, text in texts.items() if text is not None},
        chat_template=getattr(tokenizer, "chat_template", None),
        model_max_length=sane_limit(getattr(tokenizer, "model_max_length", None)),
    )


def _vocab_size(tokenizer: Any) -> int | None:
    """The larger of what it says: some leave out added tokens in one place."""
    sizes = [getattr(tokenizer, name, None) for name in ("vocab_size", "n_vocab")]
    sizes.append(len(tokenizer) if hasattr(tokenizer, "__len__") else None)
    return max((size for size in sizes if isinstance(size, int)), default=None)


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _encode_function(tokenizer: Any) -> Encode:
    told = _takes(tokenizer.encode, "add_special_tokens")

    def encode(texts: list[str], add_special_tokens: bool) -> list[list[int]]:
        options = {"add_special_tokens": add_special_tokens} if told else {}
        rows = (tokenizer.encode(text, **options) for text in texts)
        return [_ids(getattr(row, "ids", row)) for row in rows]

    return encode


def _ids(row: Any) -> list[int]:
    try:
        return [operator.index(token) for token in row]
    except TypeError:
        shown = repr(row)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise TypeError(f"tokenizer.encode gave {shown}; it must give token ids, whole numbers") from None


def _decode_function(tokenizer: Any, special: set[int]) -> Decode | None:
    decode = getattr(tokenizer, "decode", None)
    if decode is None:
        return None
    told = _takes(decode, "skip_special_tokens")

    def decode_tokens(tokens: Sequence[int], skip_special_tokens: bool) -> str:
        if told:
            return str(decode(list(tokens), skip_special_tokens=skip_special_tokens))
        return str(decode([token for token in tokens if not (skip_special_tokens and token in special)]))

    return decode_tokens
