"""Tokenizers of other libraries: anything with ``encode(text)`` that gives token ids."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from windrow.tokens.check import ODD_TEXTS
from windrow.tokens.parts import Parts, sane_limit

_ROLES = ("bos_token", "eos_token", "pad_token")


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
        f"tokenizer {name!r} encodes one text at a time in Python, which is slow; "
        "from its tokenizer.json, if it has one, texts are encoded on every core",
        stacklevel=4,
    )
    encode = _encode_function(tokenizer)
    ids = {role: getattr(tokenizer, f"{role}_id", None) for role in _ROLES}
    ids["eos_token"] = getattr(tokenizer, "eot_token", None) if ids["eos_token"] is None else ids["eos_token"]
    texts = {role: getattr(tokenizer, role, None) for role in _ROLES}
    size = getattr(tokenizer, "vocab_size", getattr(tokenizer, "n_vocab", None))
    return Parts(
        name=name,
        vocab_size=size if isinstance(size, int) else None,
        encode=encode,
        decode=_decode_function(tokenizer),
        identity=repr((name, size, encode([text for text in ODD_TEXTS if text], True))),
        ids={role: token for role, token in ids.items() if token is not None},
        texts={role: str(text) for role, text in texts.items() if text is not None},
        chat_template=getattr(tokenizer, "chat_template", None),
        model_max_length=sane_limit(getattr(tokenizer, "model_max_length", None)),
    )


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _encode_function(tokenizer: Any) -> Callable[[list[str], bool], list[list[int]]]:
    told = _takes(tokenizer.encode, "add_special_tokens")

    def encode(texts: list[str], add_special_tokens: bool) -> list[list[int]]:
        options = {"add_special_tokens": add_special_tokens} if told else {}
        rows = (tokenizer.encode(text, **options) for text in texts)
        return [[int(token) for token in getattr(row, "ids", row)] for row in rows]

    return encode


def _decode_function(tokenizer: Any) -> Callable[[Sequence[int], bool], str]:
    decode = getattr(tokenizer, "decode", None)
    told = decode is not None and _takes(decode, "skip_special_tokens")

    def decode_tokens(tokens: Sequence[int], skip_special_tokens: bool) -> str:
        if decode is None:
            raise TypeError(f"a {type(tokenizer).__name__} has no decode(tokens), which is needed here")
        options = {"skip_special_tokens": skip_special_tokens} if told else {}
        return str(decode(list(tokens), **options))

    return decode_tokens
