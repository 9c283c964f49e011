"""When a text ends, and where it is cut: stop strings as lm_eval's Hugging Face backend matches them.

After each token the last few are decoded, special ones included: two more than
the stop string itself has. A stop string that is seen there ends the text, though
it may begin and end within tokens. Afterwards the whole text is decoded without
special tokens, and each stop string in turn cuts it where it first occurs. As the
order matters where stop strings overlap, the text must end at the very token. An
empty stop string is seen everywhere, so it ends a text after one token, and cuts nothing.

    stops "cd", "abc"     tokens  a  b  c  d
    "abc" is seen after c: "abc" is cut to ""; with d it would have been "ab"

Looking costs one decoding of the new tokens and a few before them; only where a
stop string or a part of a character occurs in it, one for each token and stop string.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from windrow.generation.settings import Settings
from windrow.tokens import Tokenizer

Reason = Literal["stop", "end", "length", "skipped"]
"""Why a text ended: a stop string, an end token, the most tokens; or it never began."""

_LOOK_BACK = 2

_TORN = "\ufffd"
"""What stands for bytes that are no whole character yet."""


@dataclass(frozen=True)
class StopStrings:
    """Stop strings, each with how many tokens are looked back to find it."""

    texts: tuple[str, ...]
    reaches: tuple[int, ...]
    decode: Callable[[Sequence[int]], str] = field(repr=False)

    @cached_property
    def longest(self) -> int:
        """How many tokens are looked back at most."""
        return max(self.reaches, default=0)

    def first_end(self, tokens: Sequence[int], looked_at: int) -> int | None:
        """After how many tokens a stop string is seen first, if it is.

        Args:
            tokens: All tokens so far.
            looked_at: After how many of them was looked before.
        """
        if not self.texts:
            return None
        recent = self.decode(tokens[max(0, looked_at + 1 - self.longest) :])
        # A torn character at the end can hide what was whole a token before.
        if _TORN not in recent and not any(text in recent for text in self.texts):
            return None
        for end in range(looked_at + 1, len(tokens) + 1):
            for text, reach in zip(self.texts, self.reaches, strict=True):
                if text in self.decode(tokens[max(0, end - reach) : end]):
                    return end
        return None

    def cut(self, text: str) -> str:
        """The text up to where the stop strings, one after the other, first occur."""
        for stop in filter(None, self.texts):
            text = text.split(stop)[0]
        return text


class StopReader:
    """Makes :class:`StopStrings`, remembering how many tokens each string has.

    Args:
        tokenizer: Its EOS, as text, is a stop string of every request.
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
    """One request's tokens so far, and whether they have ended.

    Attributes:
        settings: The most tokens it may have.
        stops: Where it ends.
        end_tokens: After which tokens it ends.
        tokens: What was generated.
        reason: Why it ended; ``None`` while it has not.
    """

    settings: Settings
    stops: StopStrings
    end_tokens: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    reason: Reason | None = None

    def add(self, tokens: Iterable[int]) -> None:
        """Takes new tokens, up to where the text ends or a negative one."""
        looked_at = len(self.tokens)
        for token in tokens:
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
