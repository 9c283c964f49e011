"""Rules on the device: one table for all kinds of requests of a run, and each row's tokens so far.

A row carries the number of its kind, by which it finds its numbers and lists in the
table. Lists are padded to few widths, with -1, so that runs alike share their
programs. The order is that of Hugging Face's ``generate``, as some rules undo others.
The cost for each token is some passes over the row's tokens and one over the
vocabulary; where no request of a run has rules there is neither table nor history.

    history             5 7 5 9 . .      length 4, no_repeat_ngram_size 2
    the last token      9                stood nowhere before: all may follow
    had it been 5       5 7 5            5 was followed by 7: not again
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
"""A request's rules and end tokens; requests of one kind share them."""

_PADDING = -1
_NEVER = np.iinfo(np.int32).max


class RuleTable(NamedTuple):
    """The rules of some kinds of requests; every leaf's leading axis counts them.

    Attributes:
        penalty: ``float32``, for tokens of the row.
        prompt_penalty: ``float32``, for tokens of the prompt.
        ngram: ``int32``, 0 for no limit.
        prompt_ngram: ``int32``, 0 for no limit.
        least_new: ``int32``, before so many new tokens no end token is chosen.
        least: ``int32``, before so many tokens no end token is chosen.
        decay_start: ``int32``, after so many new tokens end tokens become likelier.
        decay: ``float32``, 1 where they do not.
        first: ``int32``, what follows a prompt of one token.
        ends: ``int32[kinds, …]``, end tokens.
        last: ``int32[kinds, …]``, what may be the last token of the longest text.
        never: ``int32[kinds, …]``, tokens that are not chosen.
        never_first: ``int32[kinds, …]``, tokens that are not chosen first.
        words: ``int32[kinds, …, …]``, token sequences that end in the last column.
        biases: ``float32[kinds, …]``, what is added to the last token's logit after the others.
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
    """What a row carries for its rules.

    Attributes:
        history: ``int32[rows, capacity]``, its tokens.
        kind: ``int32[rows]``, its kind's place in the table.
    """

    history: jax.Array
    kind: jax.Array


class RunRules:
    """The rules of a run's requests.

    Args:
        settings: ``n``, how each text is generated.
        end_tokens: What ends a text whose settings do not say.

    Attributes:
        kinds: ``n``, each request's place in the table.
        ends: ``n``, what ends each text.
        table: The rules, in NumPy; ``None`` where nobody has any and all texts end alike.
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
        """The table's shapes, by which programs are told apart."""
        if self.table is None:
            return None
        shapes: RuleTable = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.table
        )
        return shapes


def make_table(kinds: Sequence[Kind]) -> RuleTable:
    """The table of these kinds, in NumPy.

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
    """The logits that a token is chosen from, ``float32[rows, vocab]``.

    Args:
        table: The kinds' rules.
        ruled: The rows' tokens and kinds.
        lengths: ``int32[rows]``, how many tokens each row has.
        made: ``int32[rows]``, how many of them were generated.
        left: ``int32[rows]``, how many may yet be.
        logits: ``[rows, vocab]``, as the model gives them.
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
    """Where tokens stand in the vocabulary; padding beyond it."""
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
    """``bool[capacity]``: tokens before which the last ``size - 1`` of the row stand."""

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
    """Token sequences with what their last token's logit is raised by; an end token alone is no bad word."""
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
    """A power of two that is no smaller; 0 for 0, unless one is the least."""
    return 0 if not count and least > 1 else max(least, 1 << max(0, count - 1).bit_length())
