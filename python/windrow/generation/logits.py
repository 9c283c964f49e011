"""Applies rules to logits on the device.

Requests with the same rules and end tokens are of one *kind*. A table has the rules of each kind, and each
row stores the index of its kind and its *history*: its tokens so far. Lists in the table are padded with -1
to a few widths, so that similar runs share programs. Rules are applied in the order of Hugging Face's
``generate``, because some of them override others. The cost per token is a few passes over the row's tokens
and one over the vocabulary. If no request of a run has rules, there is no table and no history.

    no_repeat_ngram_size 2
    history  5 7 5 9 . .     9 has not occurred before: any token may follow
    history  5 7 5 . . .     7 followed 5 before: 7 is banned
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from windrow.generation.rules import NO_RULES, Rules
from windrow.generation.settings import Settings

Kind = tuple[Rules, tuple[int, ...]]
"""Rules and end tokens, which all requests of a kind have in common."""

_PADDING = -1
_NEVER = np.iinfo(np.int32).max


class RuleTable(NamedTuple):
    """The rules of each kind; every leaf's leading axis is kinds.

    Attributes:
        penalty: ``float32``, the repetition penalty for tokens of the row.
        prompt_penalty: ``float32``, that for tokens of the prompt: 1 / ``encoder_repetition_penalty``.
        ngram: ``int32``, n-grams of this size are not repeated; 0 for no limit.
        prompt_ngram: ``int32``, n-grams of the prompt of this size are not repeated; 0 for no limit.
        least_new: ``int32``, no end token before this many new tokens.
        least: ``int32``, no end token before this many tokens in total.
        decay_start: ``int32``, end tokens become more likely after this many new tokens.
        decay: ``float32``, the factor for that; 1 if there is none.
        first: ``int32``, the token forced after a prompt of one token; -1 for none.
        ends: ``int32[kinds, …]``, end tokens.
        last: ``int32[kinds, …]``, the only tokens allowed at the end of a text that reaches its limit.
        never: ``int32[kinds, …]``, suppressed tokens.
        never_first: ``int32[kinds, …]``, tokens that are suppressed as the first new token.
        words: ``int32[kinds, …, …]``, token sequences, right-aligned.
        biases: ``float32[kinds, …]``, the bias on a sequence's last token if the others precede it.
    """

    penalty: jax.Array
    prompt_penalty: jax.Array
    ngram: jax.Array
    prompt_ngram: jax.Array
    least_new: jax.Array
    least: jax.Array
    decay_start: jax.Array
    decay: jax.Array
    first: jax.Array
    ends: jax.Array
    last: jax.Array
    never: jax.Array
    never_first: jax.Array
    words: jax.Array
    biases: jax.Array


class Ruled(NamedTuple):
    """What rows store for their rules.

    Attributes:
        history: ``int32[rows, capacity]``, each row's tokens.
        kind: ``int32[rows]``, the index of each row's kind in the table.
    """

    history: jax.Array
    kind: jax.Array


class RunRules:
    """The rules of a run's requests.

    Args:
        settings: ``n`` settings, one per request.
        end_tokens: The end tokens of requests without their own.

    Attributes:
        kinds: ``n`` indices, each request's kind in the table.
        ends: ``n`` sets, each request's end tokens.
        table: The rules, as NumPy arrays; ``None`` if no request has rules or end tokens of its own.
    """

    def __init__(self, settings: Sequence[Settings], end_tokens: tuple[int, ...]) -> None:
        kinds = [(one.rules, end_tokens if one.end_tokens is None else one.end_tokens) for one in settings]
        places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
        self.kinds = [places[kind] for kind in kinds]
        self.ends = [frozenset(ends) for _, ends in kinds]
        plain = places.keys() <= {(NO_RULES, end_tokens)}
        self.table = None if plain else make_table(list(places))

    @property
    def shapes(self) -> RuleTable | None:
        """The table's shapes and dtypes, for compilation; ``None`` without a table."""
        if self.table is None:
            return None
        shapes: RuleTable = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.table
        )
        return shapes


def make_table(kinds: Sequence[Kind]) -> RuleTable:
    """The table of these kinds, as NumPy arrays, with the number of kinds rounded up to a power of two.

    >>> make_table([(Rules(), ()), (Rules(suppress_tokens=(3,)), ())]).never.tolist()[1][:2]
    [3, -1]
    """
    count = _wide(len(kinds), 1)
    rules = [rule for rule, _ in kinds] + [NO_RULES] * (count - len(kinds))
    ends = [ends for _, ends in kinds] + [()] * (count - len(kinds))
    words = [_biased_words(rule, end) for rule, end in zip(rules, ends, strict=True)]
    decays = [rule.exponential_decay_length_penalty or (_NEVER, 1.0) for rule in rules]
    firsts = [rule.forced_bos_token_id for rule in rules]
    columns: dict[str, Any] = {
        "penalty": np.array([rule.repetition_penalty for rule in rules], np.float32),
        "prompt_penalty": np.array([1 / rule.encoder_repetition_penalty for rule in rules], np.float32),
        "ngram": np.array([rule.no_repeat_ngram_size for rule in rules], np.int32),
        "prompt_ngram": np.array([rule.encoder_no_repeat_ngram_size for rule in rules], np.int32),
        "least_new": np.array([rule.min_new_tokens or 0 for rule in rules], np.int32),
        "least": np.array([_least(rule) for rule in rules], np.int32),
        "decay_start": np.array([start for start, _ in decays], np.int32),
        "decay": np.array([factor for _, factor in decays], np.float32),
        "first": np.array([_PADDING if first is None else first for first in firsts], np.int32),
        "ends": _padded(ends),
        "last": _padded([rule.forced_eos_token_id for rule in rules]),
        "never": _padded([rule.suppress_tokens for rule in rules]),
        "never_first": _padded([rule.begin_suppress_tokens for rule in rules]),
        "words": _padded_words([list(each) for each in words]),
        "biases": _padded_biases([list(each.values()) for each in words]),
    }
    return RuleTable(**columns)


def apply_rules(
    table: RuleTable,
    ruled: Ruled,
    lengths: jax.Array,
    made: jax.Array,
    left: jax.Array,
    logits: jax.Array,
) -> jax.Array:
    """The logits after all rules, ``float32[rows, vocab]``.

    Args:
        table: The rules of each kind.
        ruled: The rows' tokens and kinds.
        lengths: ``int32[rows]``, the number of tokens in each row.
        made: ``int32[rows]``, how many of these were generated.
        left: ``int32[rows]``, how many more may be generated, including the next one.
        logits: ``[rows, vocab]``, from the model.
    """
    own = jax.tree.map(lambda column: column[ruled.kind], table)
    rows = own, ruled.history, lengths, made, left, logits.astype(jnp.float32)
    changed: jax.Array = jax.vmap(_apply)(*rows)
    return changed


def _apply(
    own: RuleTable,
    history: jax.Array,
    length: jax.Array,
    made: jax.Array,
    left: jax.Array,
    logits: jax.Array,
) -> jax.Array:
    """One row's logits, ``float32[vocab]``."""
    at, prompt = jnp.arange(len(history), dtype=jnp.int32), length - made
    begins = made == ((prompt == 1) & (own.first >= 0)).astype(jnp.int32)
    logits = _add_biases(logits, own, history, length)
    logits = _penalize(logits, jnp.where(at < prompt, history, _PADDING), own.prompt_penalty)
    logits = _penalize(logits, jnp.where(at < length, history, _PADDING), own.penalty)
    for size, known in ((own.ngram, length), (own.prompt_ngram, prompt)):
        repeated = _ends_repeated_ngram(history, length, size) & (at < known)
        logits = _ban(logits, jnp.where(repeated, history, _PADDING))
    early = (made < own.least_new) | (length < own.least)
    logits = _ban(logits, jnp.where(early, own.ends, _PADDING))
    logits = _force(logits, own.first[None], length == 1)
    logits = _force(logits, own.last, left == 1)
    logits = _decay(logits, own, made)
    logits = _ban(logits, own.never)
    return _ban(logits, jnp.where(begins, own.never_first, _PADDING))


def _places(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """The tokens as indices into the vocabulary; padding is out of range."""
    return jnp.where(tokens < 0, len(logits), tokens)


def _ban(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    return logits.at[_places(logits, tokens)].set(-jnp.inf, mode="drop")


def _force(logits: jax.Array, tokens: jax.Array, now: jax.Array) -> jax.Array:
    forced = jnp.full_like(logits, -jnp.inf).at[_places(logits, tokens)].set(0.0, mode="drop")
    return jnp.where(now & jnp.any(tokens >= 0), forced, logits)


def _penalize(logits: jax.Array, tokens: jax.Array, penalty: jax.Array) -> jax.Array:
    places = _places(logits, tokens)
    found = logits.at[places].get(mode="fill", fill_value=0.0)
    return logits.at[places].set(jnp.where(found < 0, found * penalty, found / penalty), mode="drop")


def _ends_repeated_ngram(history: jax.Array, length: jax.Array, size: jax.Array) -> jax.Array:
    """``bool[capacity]``: which tokens are preceded by the row's last ``size - 1`` tokens."""

    def compare(back: jax.Array, same: jax.Array) -> jax.Array:
        return same & (jnp.roll(history, back) == history[length - back])

    at = jnp.arange(len(history), dtype=jnp.int32)
    ends: jax.Array = jax.lax.fori_loop(1, size, compare, (size > 0) & (at >= size - 1))
    return ends


def _decay(logits: jax.Array, own: RuleTable, made: jax.Array) -> jax.Array:
    places = _places(logits, own.ends)
    found = logits.at[places].get(mode="fill", fill_value=0.0)
    late = jnp.maximum(made - own.decay_start, 0).astype(jnp.float32)
    more = jnp.where(jnp.isfinite(found), jnp.abs(found) * (jnp.power(own.decay, late) - 1), 0.0)
    return logits.at[places].set(found + more, mode="drop")


def _add_biases(logits: jax.Array, own: RuleTable, history: jax.Array, length: jax.Array) -> jax.Array:
    count, longest = own.words.shape
    if not count:
        return logits
    places = length + jnp.arange(1 - longest, 0, dtype=jnp.int32)
    recent = jnp.where(places >= 0, history[places], _PADDING)
    before, last = own.words[:, :-1], own.words[:, -1]
    meant = jnp.all((before == recent[None, :]) | (before < 0), axis=1)
    biases = jnp.zeros_like(logits).at[_places(logits, last)]
    return logits + biases.add(jnp.where(meant, own.biases, 0.0), mode="drop")


def _least(rule: Rules) -> int:
    return rule.min_length if rule.min_new_tokens is None else 0


def _biased_words(rule: Rules, ends: Sequence[int]) -> dict[tuple[int, ...], float]:
    """Token sequences with the bias on their last token; a single end token is never a bad word."""
    banned = [word for word in rule.bad_words_ids if len(word) > 1 or word[0] not in ends]
    return {**dict(rule.sequence_bias), **dict.fromkeys(banned, -np.inf)}


def _padded(lists: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    width = _wide(max(map(len, lists)))
    return np.array([[*each, *[_PADDING] * (width - len(each))] for each in lists], np.int32).reshape(
        len(lists), width
    )


def _padded_words(words: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.int32]:
    longest = _wide(max((len(word) for each in words for word in each), default=0), 1)
    table = np.full((len(words), _wide(max(map(len, words))), longest), _PADDING, np.int32)
    for kind, each in enumerate(words):
        for index, word in enumerate(each):
            table[kind, index, longest - len(word) :] = word
    return table


def _padded_biases(biases: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    table = np.zeros((len(biases), _wide(max(map(len, biases)))), np.float32)
    for kind, each in enumerate(biases):
        table[kind, : len(each)] = each
    return table


def _wide(count: int, least: int = 8) -> int:
    """The next power of two, at least ``least``; 0 for 0, unless ``least`` is 1."""
    return 0 if not count and least > 1 else max(least, 1 << max(0, count - 1).bit_length())
