"""Rules that change the logits before a token is chosen, as in Hugging Face's ``generate``.

The fields have the same names and meaning as in ``generation_config.json``
(transformers 5.24), and apply to greedy decoding and sampling. Repetition is checked over
the whole row: the prompt, BOS included, and the text so far.

    repetition_penalty=1.3          tokens that occur in the row become less likely
    no_repeat_ngram_size=2          no pair of adjacent tokens occurs twice
    suppress_tokens=[10, 11]        neither is ever chosen
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

Words = tuple[tuple[int, ...], ...]
"""Token sequences."""


@dataclass(frozen=True)
class Rules:
    """Changes to the logits; by default none.

    Attributes:
        repetition_penalty: Divides the positive logits of tokens that occur in the row, and multiplies
            the negative ones.
        encoder_repetition_penalty: The inverse of such a penalty, for tokens of the prompt: above 1, they
            become more likely.
        no_repeat_ngram_size: No sequence of this many tokens occurs twice in the row; 0 means no limit.
        encoder_no_repeat_ngram_size: No sequence of this many tokens from the prompt occurs again; 0 means no
            limit.
        bad_words_ids: Token sequences that are never completed.
        sequence_bias: Token sequences, each with a bias on the logit of its last token that applies if
            the others precede it.
        min_new_tokens: No end token before this many new tokens; takes precedence over ``min_length``.
        min_length: The same, but counting prompt tokens too.
        forced_bos_token_id: The token that is forced after a prompt of one token.
        forced_eos_token_id: The tokens one of which is forced as the last token of a text that reaches its
            length limit.
        exponential_decay_length_penalty: ``(start, factor)``: after ``start`` new tokens, end tokens become
            more likely with each token; ``n`` tokens later, ``abs(logit) * (factor**n - 1)`` is added to
            their logits.
        suppress_tokens: Tokens that are never chosen.
        begin_suppress_tokens: Tokens that are never chosen first.
    """

    repetition_penalty: float = 1.0
    encoder_repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_words_ids: Words = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    min_new_tokens: int | None = None
    min_length: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: tuple[int, ...] = ()
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Rejects invalid values, naming them; lists become tuples, and ``None`` becomes the default."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not type(field.default) or value != field.default:
                object.__setattr__(self, field.name, _read(field.name, value))


NO_RULES = Rules()
"""No changes."""


def read_rules(values: Mapping[str, Any], base: Rules) -> Rules:
    """Rules with some fields replaced by values from JSON or YAML.

    Args:
        values: By name; other names are ignored. ``None`` removes a rule.
        base: The rules for names that are not given.

    Raises:
        ValueError: A value is invalid; the message names it.

    >>> read_rules({"suppress_tokens": [3, 4], "min_length": None}, Rules(min_length=5)).suppress_tokens
    (3, 4)
    """
    return replace(base, **{name: values[name] for name in RULES if name in values})


def _read(name: str, value: Any) -> Any:
    if value is None:
        return _NONE[name]
    read, expected = _READERS[name]
    try:
        return read(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ValueError(f"{name} must be {expected}, not {value!r}") from None


def number(value: Any) -> float:
    """A finite number, possibly given as a string.

    Raises:
        TypeError, ValueError, OverflowError: The value is not a finite number, or a boolean.
    """
    read = float(value)
    return read if not isinstance(value, bool) and abs(read) < inf else _refuse()


def whole(value: Any) -> int:
    """A whole number of at least 0, possibly given as a float or a string.

    Raises:
        TypeError, ValueError, OverflowError: The value is not such a number, or a boolean.
    """
    read = number(value)
    return int(read) if read == int(read) and read >= 0 else _refuse()


def tokens(value: Any) -> tuple[int, ...]:
    """The token ids in a list, or a single one.

    Raises:
        TypeError, ValueError, OverflowError: One of them is not a whole number of at least 0.
    """
    return tuple(map(whole, value)) if isinstance(value, list | tuple) else (whole(value),)


def _refuse() -> Any:
    raise ValueError


def _penalty(value: Any) -> float:
    read = number(value)
    return read if read > 0 else _refuse()


def _word(value: Any) -> tuple[int, ...]:
    return tuple(map(whole, value)) if isinstance(value, list | tuple) and value else _refuse()


def _words(value: Any) -> Words:
    return tuple(map(_word, value)) if isinstance(value, list | tuple) else _refuse()


def _biases(value: Any) -> tuple[tuple[tuple[int, ...], float], ...]:
    pairs = value.items() if isinstance(value, Mapping) else value
    read = {_word(word): float(bias) for word, bias in pairs}
    return tuple(read.items()) if all(bias < inf for bias in read.values()) else _refuse()


def _suppressed(value: Any) -> tuple[int, ...]:
    """A list of token ids; negative ones mean no token and are ignored."""
    if not isinstance(value, list | tuple):
        _refuse()
    return tuple(whole(token) for token in value if number(token) >= 0)


def _decay(value: Any) -> tuple[int, float]:
    start, factor = value
    return whole(start), _penalty(factor)


_PENALTY = _penalty, "a number above 0"
_SIZE = whole, "a whole number of at least 0"
_TOKENS = _suppressed, "a list of token ids"

_READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "repetition_penalty": _PENALTY,
    "encoder_repetition_penalty": _PENALTY,
    "no_repeat_ngram_size": _SIZE,
    "encoder_no_repeat_ngram_size": _SIZE,
    "bad_words_ids": (_words, "a list of lists of token ids, none of them empty"),
    "sequence_bias": (_biases, "a list of pairs, each a list of token ids and a number"),
    "min_new_tokens": _SIZE,
    "min_length": _SIZE,
    "forced_bos_token_id": (whole, "a token id"),
    "forced_eos_token_id": (tokens, "a token id or a list of them"),
    "exponential_decay_length_penalty": (_decay, "a pair of a whole number and a number above 0"),
    "suppress_tokens": _TOKENS,
    "begin_suppress_tokens": _TOKENS,
}

_NONE = {field.name: field.default for field in fields(Rules)}

RULES = tuple(_READERS)
"""Names of the rules."""
