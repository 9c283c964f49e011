"""Any object that can encode, seen as a tokenizer of the ``tokenizers`` package.

The object needs ``encode(text) -> list[int]`` and, for generation, ``decode(tokens)``.
Its ``bos_token_id``, ``eos_token_id`` and ``pad_token_id`` are used where it has
them, and ``vocab_size`` (or ``n_vocab``, or ``len``) tells how many tokens there are.
"""

import inspect
from collections.abc import Sequence
from typing import Any

_PROBES = ["", "a", "Plain text, 0123.", " leading", "trailing ", "naïve, 日本語 🙂"]


class PlainBackend:
    """The few methods of a backend that `Tokenizer` needs, over an object with ``encode``.

    Raises:
        TypeError: The object has no ``encode``.
    """

    def __init__(self, source: Any) -> None:
        if not callable(getattr(source, "encode", None)):
            raise TypeError(
                f"source must be a path, a hub name, a tokenizers.Tokenizer, a transformers fast tokenizer, "
                f"or an object with encode(text) -> list[int], not {type(source).__name__}"
            )
        self.source = source
        try:
            self._says_special = "add_special_tokens" in inspect.signature(source.encode).parameters
        except (TypeError, ValueError):
            self._says_special = False

    def __call__(self, texts: Sequence[str], specials: bool) -> list[list[int]]:
        """Encodes texts one by one."""
        options = {"add_special_tokens": specials} if self._says_special else {}
        return [[int(token) for token in self.source.encode(text, **options)] for text in texts]

    @property
    def can_decode(self) -> bool:
        """Whether the object has ``decode``."""
        return callable(getattr(self.source, "decode", None))

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""
        if not self.can_decode:
            raise TypeError(f"{type(self.source).__name__} has no decode(tokens), which generation needs")
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        special = {getattr(self.source, name, None) for name in names} if skip_special_tokens else set()
        return str(self.source.decode([token for token in tokens if token not in special]))

    def get_vocab_size(self, *, with_added_tokens: bool) -> int | None:  # noqa: ARG002
        """How many tokens there are, or ``None`` where the object does not say."""
        for name in ("vocab_size", "n_vocab"):
            if isinstance(size := getattr(self.source, name, None), int):
                return size
        return len(self.source) if hasattr(self.source, "__len__") else None

    def token_to_id(self, role: str) -> int | None:
        """The id of a special token, which is named by its role here."""
        number = getattr(self.source, f"{role}_id", None)
        return None if number is None else int(number)

    def to_str(self) -> str:
        """What tells this tokenizer from others: its type and how it encodes some texts."""
        return f"{type(self.source).__module__}.{type(self.source).__qualname__} {self(_PROBES, True)}"
