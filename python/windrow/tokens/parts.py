"""The parts of a tokenizer, regardless of its library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windrow.tokens.source import ChatTemplate

Encode = Callable[[list[str], bool], Sequence[list[int] | str]]
"""``encode(texts, add_special_tokens)``: each text's token ids, or the reason why it was rejected."""

Decode = Callable[[Sequence[int], bool], str]
"""``decode(tokens, skip_special_tokens)``: a text."""


@dataclass(frozen=True)
class Parts:
    """The parts of a tokenizer.

    Attributes:
        name: The source it was loaded from.
        vocab_size: The number of tokens; ``None`` if its library does not report it.
        encode: Encodes texts with the tokenizer's own library.
        decode: Decodes token ids; ``None`` if the tokenizer cannot.
        identity: A string that differs between tokenizers that encode differently.
        json: A complete ``tokenizer.json``, if there is one.
        added_tokens: The texts of added tokens, which are matched before a text is encoded, in id order.
        ids: The ids of tokens with a role, such as ``"bos_token"``.
        texts: The texts of the same tokens.
        chat_template: The chat template, or several by name.
        model_max_length: The model's maximum input length, if the tokenizer specifies it.
        foreign: Whether it is an object from another library, which may reject the text of its own special
            tokens.
    """

    name: str
    vocab_size: int | None
    encode: Encode
    decode: Decode | None
    identity: str
    json: str | None = None
    added_tokens: Sequence[str] = ()
    ids: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    chat_template: ChatTemplate = None
    model_max_length: int | None = None
    foreign: bool = False


_NO_LIMIT = 10**18
"""Configurations use 1e30 to mean no limit."""


def sane_limit(limit: Any) -> int | None:
    """A configuration's length limit; ``None`` if it means no limit."""
    return int(limit) if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT else None
