"""Supports tokenizers of other libraries: anything with ``encode(text)`` that returns token ids.

Two are recognized by their attributes: tiktoken's ``Encoding`` (``eot_token``, ``special_tokens_set``) and
SentencePiece's processor (``bos_id()``, and ``encode`` with ``add_bos`` and ``add_eos``).
"""

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

from windrow.tokens.parts import Decode, Encode, Parts, sane_limit
from windrow.warning import warn

_ROLES = ("bos_token", "eos_token", "pad_token")

_LARGEST = 2**31 - 1
"""The largest token id: tokens are ``int32``."""

_SHOWN = 80
"""The number of characters of a tokenizer's output that an error shows."""

_PROBES = ("a", "Plain text, 0123.", " before", "after ", "\n\n", "na\u00efve, \u65e5\u672c\u8a9e \U0001f642")
"""Texts whose tokens identify a tokenizer."""


def foreign_parts(tokenizer: Any, add_bos_token: bool | None = None) -> Parts:
    """Describes an object that encodes one text at a time.

    These attributes are used if present: ``decode``, ``vocab_size`` (or ``n_vocab``), ``bos_token_id`` (or
    ``bos_id()``), ``eos_token_id`` (or ``eos_id()``, ``eot_token``), ``pad_token_id`` (or ``pad_id()``),
    ``chat_template`` and ``model_max_length``. If its ``encode`` takes neither ``add_special_tokens`` nor
    ``add_bos``, special tokens are up to the object; with ``add_bos_token``, its BOS token is prepended to
    texts that do not begin with it.

    Raises:
        TypeError: The object has no ``encode``, or is a class.
        ValueError: It fails on every kind of plain text. One that fails on some, because its vocabulary has
            only the characters of its corpus, is accepted; each request that it cannot encode is an error.
    """
    if isinstance(tokenizer, type):
        name = tokenizer.__name__
        raise TypeError(f"tokenizer is the class {name}; pass an instance, such as {name}()")
    if not callable(getattr(tokenizer, "encode", None)):
        raise TypeError(
            "tokenizer must be a path, a name on the Hub, a tokenizers.Tokenizer, a transformers tokenizer, "
            f"or an object with encode(text) -> list[int], not {type(tokenizer).__name__}"
        )
    name = str(
        getattr(tokenizer, "name_or_path", "") or getattr(tokenizer, "name", "") or type(tokenizer).__name__
    )
    warn(
        f"tokenizer {name!r} encodes in Python, one text at a time, which is slow; "
        "if it has a tokenizer.json, load that to encode on every core"
    )
    known = _special_ids(tokenizer)
    encode = _encode_function(tokenizer, known.get("bos_token"), add_bos_token)
    texts = {role: getattr(tokenizer, role, None) for role in _ROLES}
    size = _vocab_size(tokenizer)
    probes = encode(list(_PROBES), True)
    if all(isinstance(row, str) for row in probes):
        raise ValueError(f"tokenizer {name!r} cannot encode the plain text {_PROBES[0]!r}: {probes[0]}")
    return Parts(
        name=name,
        vocab_size=size,
        encode=encode,
        decode=_decode_function(tokenizer, {*known.values(), *_other_special_ids(tokenizer)}),
        identity=repr((name, size, probes)),
        ids=known,
        texts={role: str(text) for role, text in texts.items() if text is not None},
        chat_template=getattr(tokenizer, "chat_template", None),
        model_max_length=sane_limit(getattr(tokenizer, "model_max_length", None)),
        foreign=True,
    )


def _special_ids(tokenizer: Any) -> dict[str, int]:
    """The tokens that have a role; SentencePiece uses a negative id if there is none."""
    ids = {role: _found(tokenizer, f"{role}_id") for role in _ROLES}
    for role in _ROLES:
        if ids[role] is None:
            ids[role] = _found(tokenizer, role.replace("_token", "_id"))
    if ids["eos_token"] is None:
        ids["eos_token"] = _found(tokenizer, "eot_token")
    return {role: int(token) for role, token in ids.items() if token is not None and int(token) >= 0}


def _found(tokenizer: Any, name: str) -> Any:
    """The value of an attribute, or the result of a method of this name; ``None`` if there is none."""
    try:
        value = getattr(tokenizer, name, None)
    except KeyError:  # tiktoken's eot_token, if there is no such token
        return None
    return value() if callable(value) else value


def _other_special_ids(tokenizer: Any) -> set[int]:
    """The special tokens without a role, if the object lists them as tiktoken does."""
    texts = getattr(tokenizer, "special_tokens_set", None) or ()
    single = getattr(tokenizer, "encode_single_token", None)
    return {int(single(text)) for text in texts} if callable(single) else set()


def _vocab_size(tokenizer: Any) -> int | None:
    """The largest size that the object reports; some attributes do not count added tokens."""
    sizes = [getattr(tokenizer, name, None) for name in ("vocab_size", "n_vocab")]
    sizes.append(len(tokenizer) if hasattr(tokenizer, "__len__") else None)
    return max((size for size in sizes if isinstance(size, int)), default=None)


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _encode_function(tokenizer: Any, bos: int | None, add_bos_token: bool | None) -> Encode:
    takes_flag = _takes(tokenizer.encode, "add_special_tokens")
    pieces = _takes(tokenizer.encode, "add_bos") and _takes(tokenizer.encode, "add_eos")
    prepends = bool(add_bos_token) and not takes_flag and bos is not None

    def options(add_special_tokens: bool) -> dict[str, bool]:
        if takes_flag:
            return {"add_special_tokens": add_special_tokens}
        return {"add_bos": False, "add_eos": False} if pieces and not add_special_tokens else {}

    def encode_one(text: str, add_special_tokens: bool) -> list[int] | str:
        try:
            row = tokenizer.encode(text, **options(add_special_tokens))
        except Exception as error:  # libraries raise errors of any kind
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ids = _ids(getattr(row, "ids", row))
        if ids and not 0 <= min(ids) <= max(ids) <= _LARGEST:
            bad = next(token for token in ids if not 0 <= token <= _LARGEST)
            return f"tokenizer.encode returned the token id {bad}; expected 0 to {_LARGEST}"
        if prepends and add_special_tokens and bos is not None and ids[:1] != [bos]:
            return [bos, *ids]
        return ids

    def encode(texts: list[str], add_special_tokens: bool) -> list[list[int] | str]:
        return [encode_one(text, add_special_tokens) for text in texts]

    return encode


def _ids(row: Any) -> list[int]:
    try:
        return [operator.index(token) for token in row]
    except TypeError:
        shown = repr(row)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise TypeError(f"tokenizer.encode returned {shown}; expected token ids (integers)") from None


def _decode_function(tokenizer: Any, special: set[int]) -> Decode | None:
    decode = getattr(tokenizer, "decode", None)
    if decode is None:
        return None
    takes_flag = _takes(decode, "skip_special_tokens")

    def decoded(tokens: Sequence[int], skip_special_tokens: bool) -> str:
        if takes_flag:
            return str(decode(list(tokens), skip_special_tokens=skip_special_tokens))
        return str(decode([token for token in tokens if not (skip_special_tokens and token in special)]))

    def decode_tokens(tokens: Sequence[int], skip_special_tokens: bool) -> str:
        try:
            return decoded(tokens, skip_special_tokens)
        except Exception as error:  # whatever the user's code raises
            ids = f"{len(tokens)} token ids" + (f" from {min(tokens)} to {max(tokens)}" if tokens else "")
            problem = f"tokenizer.decode failed on {ids}: {type(error).__name__}: {error}"
            raise ValueError(f"{problem}. It must decode every token id of the model's vocabulary") from error

    return decode_tokens
