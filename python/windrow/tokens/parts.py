"""What a tokenizer is made of, whatever library it comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windrow.tokens.source import ChatTemplate

Encode = Callable[[list[str], bool], Sequence[list[int] | str]]
"""``encode(texts, add_special_tokens)``: for each text its token ids, or why it is refused."""

Decode = Callable[[Sequence[int], bool], str]
"""``decode(tokens, skip_special_tokens)``: a text."""


@dataclass(frozen=True)
class Parts:
    """What a tokenizer is made of.

    Attributes:
        name: What it was loaded from.
        vocab_size: How many tokens there are; ``None`` where its library does not say.
        encode: Encodes texts, slowly but surely.
        decode: Decodes token ids; ``None`` where it cannot.
        identity: A text that is the same only where texts are encoded the same.
        json: A ``tokenizer.json`` that says all of it, if there is one.
        added_tokens: The spellings of tokens that are found in a text before it is encoded, by their ids.
        ids: The tokens that play a role (``"bos_token"``), by their ids.
        texts: The same by their spelling.
        chat_template: The chat template, or several by name.
        model_max_length: The most tokens its model can see, if it says so.
        foreign: Whether it is an object of another library, which may not encode the text of its own special
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
"""Configurations say 1e30 where they mean that there is no limit."""


def sane_limit(limit: Any) -> int | None:
    """A configuration's length limit; ``None`` where it is none."""
    return int(limit) if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT else None
