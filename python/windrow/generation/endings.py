"""Decides when a text ends and where to truncate it, with stop strings as in lm_eval's Hugging Face backend.

After each token, each stop string is searched for in the last few tokens, decoded with special tokens: as
many tokens as the stop string has, plus two. If it is found, the text ends, even if the stop string begins or
ends within a token. The whole text is then decoded without special tokens, and truncated at the first
occurrence of each stop string in turn. With overlapping stop strings, the result depends on the token at
which generation stopped, so windrow stops at the same token as lm_eval. An empty stop string matches
everywhere: it ends a text after one token and removes nothing.

    stops "cd", "abc"     tokens  a  b  c  d
    "abc" is found after c, so the text "abc" is cut to ""; after d, the text "abcd" would be cut to "ab"

Usually, one decoding of the new tokens and a few before them is enough. Only if it contains a stop string or
an incomplete character are the tokens checked one by one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from windrow.generation.settings import Settings
from windrow.tokens import Tokenizer

Reason = Literal["stop", "end", "length", "skipped"]
"""Why a text ended: a stop string, an end token, or the length limit; or it was skipped."""

UNDEFINED = -2
"""What a row emits in place of a token whose logit is NaN."""

NOT_NUMBERS = "the model's logits are not numbers (NaN); look for overflow in its parameters or activations"
"""The reason given for a prompt whose text is undefined."""

_LOOK_BACK = 2

_TORN = "\ufffd"
"""The replacement character: the bytes so far do not form a complete character."""


@dataclass(frozen=True)
class StopStrings:
    """Stop strings, each with the number of last tokens to search.

    Attributes:
        texts: The stop strings.
        reaches: For each of them, the number of last tokens to decode and search.
        decode: Decodes tokens, special ones included.
    """

    texts: tuple[str, ...]
    reaches: tuple[int, ...]
    decode: Callable[[Sequence[int]], str] = field(repr=False)

    @cached_property
    def longest(self) -> int:
        """The largest number of tokens to search."""
        return max(self.reaches, default=0)

    def first_end(self, tokens: Sequence[int], looked_at: int) -> int | None:
        """The number of tokens after which a stop string is first found, or ``None``.

        Args:
            tokens: All tokens so far.
            looked_at: The number of leading tokens that have already been checked.
        """
        if not self.texts:
            return None
        recent = self.decode(tokens[max(0, looked_at + 1 - self.longest) :])
        # An incomplete character at the end can hide a match that was there one token earlier.
        if _TORN not in recent and not any(text in recent for text in self.texts):
            return None
        for end in range(looked_at + 1, len(tokens) + 1):
            for text, reach in zip(self.texts, self.reaches, strict=True):
                if text in self.decode(tokens[max(0, end - reach) : end]):
                    return end
        return None

    def cut(self, text: str) -> str:
        """Truncates the text at the first occurrence of each stop string in turn."""
        for stop in filter(None, self.texts):
            text = text.split(stop)[0]
        return text


class StopReader:
    """Creates and caches :class:`StopStrings`.

    Args:
        tokenizer: The tokenizer; its EOS, as text, is a stop string of every request.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._made: dict[tuple[str, ...], StopStrings] = {}

    def read(self, stops: tuple[str, ...]) -> StopStrings:
        """These stop strings and the tokenizer's EOS."""
        if stops not in self._made:
            end = self._tokenizer.eos_token_id
            always = "" if end is None else self._decode([end])
            texts = tuple(dict.fromkeys((*stops, *([always] if always else []))))
            reaches = tuple(self._tokenizer.most_tokens(text) + _LOOK_BACK for text in texts)
            self._made[stops] = StopStrings(texts, reaches, self._decode)
        return self._made[stops]

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False)


@dataclass
class Growing:
    """One request's tokens so far, and whether its text has ended.

    Attributes:
        settings: The request's settings, for its length limit.
        stops: The stop strings that end it.
        end_tokens: The tokens that end it.
        tokens: The generated tokens.
        reason: Why it ended; ``None`` until it has.
    """

    settings: Settings
    stops: StopStrings
    end_tokens: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    reason: Reason | None = None

    def add(self, tokens: Iterable[int]) -> None:
        """Appends new tokens until the text ends, or up to -1, which an idle slot emits.

        A text with an undefined token is skipped: nothing is left of it.
        """
        looked_at = len(self.tokens)
        for token in tokens:
            if token == UNDEFINED and self.reason is None:
                self.tokens.clear()
                self.reason = "skipped"
                return
            if token < 0 or self.reason is not None:
                break
            self.tokens.append(token)
            if token in self.end_tokens:
                self.reason = "end"
            elif len(self.tokens) == self.settings.max_new_tokens:
                self.reason = "length"
        end = self.stops.first_end(self.tokens, looked_at) if len(self.tokens) > looked_at else None
        if end is not None and (end < len(self.tokens) or self.reason != "end"):
            del self.tokens[end:]
            self.reason = "stop"
