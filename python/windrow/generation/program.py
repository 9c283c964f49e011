"""The traced functions of generation: prefill and decoding.

A fixed number of slots, each with one request's row, stays on the devices. Three
programs work on them, each compiled once per shape:

- *insert* prefills prompts, ``[rows, length]``, and puts their rows into free slots; it also prefills
  shared prefixes, and puts their states into a store;
- *decode* generates a few tokens in every slot. Finished rows are idle: their
  segment id is 0, so their memory does not change, and they emit -1;
- *move* moves the last rows of a run to fewer slots.

What a row stores of its text is called its *memory*. It depends on the model:
:class:`Stepping` keeps the model's state, such as a KV cache; :class:`Recomputing`
keeps the tokens, and runs the whole text again for each new one.

    three slots         0   1   2
    left before         3   0   1
    first token         7  -1   4
    second token        9  -1  -1
    left after          1   0   0

Slots and inserted rows are split over the devices in the same way, and a row enters a
slot of its own group, so its memory never moves between devices.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from windrow.generation.endings import UNDEFINED
from windrow.generation.logits import Ruled, RuleTable, apply_rules
from windrow.generation.sampling import Choice, choose_tokens
from windrow.model import LanguageModel
from windrow.scoring.chunks import state_alone, through_chunks
from windrow.scoring.forks.program import store_states, stored_states
from windrow.scoring.program import row_layout

WHOLE = ("length", "slot", "limit", "top_k", "kind", "key", "key", "depth", "from_slot", "to_slot")
"""The integers of an inserted row. The last three are for shared prefixes: the number of tokens in the row's
prefix, the store slot with the prefix's state, and the store slot that gets the row's own state."""


class Slots(NamedTuple):
    """All slots; every leaf's leading axis is slots.

    Attributes:
        memory: What each row stores of its text.
        token: ``int32``, the last token, which is not in the memory of :class:`Stepping` yet.
        position: ``int32``, its position.
        made: ``int32``, how many tokens have been generated.
        left: ``int32``, how many more may be generated; 0 if the row is idle.
        key: ``uint32[slots, 2]``, the two words of a random key for sampling.
        top_k: ``int32``, 0 for no limit.
        temperature: ``float32``, 0 for greedy.
        top_p: ``float32``, 1 for no limit.
        ruled: What rows store for their rules, if the run has any.
    """

    memory: Any
    token: jax.Array
    position: jax.Array
    made: jax.Array
    left: jax.Array
    key: jax.Array
    top_k: jax.Array
    temperature: jax.Array
    top_p: jax.Array
    ruled: Ruled | None


class Memory(Protocol):
    """How rows store their texts."""

    def empty(self, params: Any, rows: int) -> Any:
        """The memory of empty rows."""

    def read(self, params: Any, tokens: jax.Array, lengths: jax.Array) -> Any:
        """The memory of rows after prefill of ``tokens``, ``int32[rows, length]``."""

    def advance(
        self, params: Any, memory: Any, token: jax.Array, position: jax.Array, active: jax.Array
    ) -> tuple[Any, jax.Array]:
        """The memory after one more token per row, and the logits of the next one, ``[rows, vocab]``."""


@dataclass(frozen=True)
class Stepping:
    """The memory is the model's state: a KV cache or a recurrent state.

    Attributes:
        model: A model with ``init_state`` and ``step``.
        capacity: The maximum number of tokens in a row, prompt included; 0 if ``init_state`` takes no length.
        chunk_length: How many columns a prefill runs at a time.
    """

    model: LanguageModel
    capacity: int
    chunk_length: int

    def empty(self, params: Any, rows: int) -> Any:
        """The model's initial state."""
        return self.model.state_for(params, rows, self.capacity)

    def read(self, params: Any, tokens: jax.Array, lengths: jax.Array) -> Any:
        """The state before each prompt's last token; decoding begins with that token."""
        return self.resume(params, self.empty(params, len(tokens)), tokens, lengths, jnp.zeros_like(lengths))

    def resume(
        self, params: Any, state: Any, tokens: jax.Array, lengths: jax.Array, depths: jax.Array
    ) -> Any:
        """The state before each prompt's last token, from the state after its first ``depths`` tokens.

        Args:
            params: The model's parameters.
            state: The state of each row after these tokens.
            tokens: ``int32[rows, length]``, the tokens after them.
            lengths: ``int32[rows]``, the number of ``tokens`` in each row, the last one included.
            depths: ``int32[rows]``, the number of tokens in the state.
        """
        assert self.model.step is not None
        length = tokens.shape[1]
        positions, segment_ids = row_layout(lengths - 1, length)
        batch = (tokens, positions + depths[:, None], segment_ids)
        read = state_alone(partial(self.model.step, params))
        room = self.model.room(self.capacity or length)
        return through_chunks(read, state, batch, room, self.chunk_length, jnp.max(lengths) - 1)[0]

    def advance(
        self, params: Any, memory: Any, token: jax.Array, position: jax.Array, active: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Runs one step."""
        assert self.model.step is not None
        columns = token[:, None], position[:, None], active[:, None].astype(jnp.int32)
        memory, last = self.model.step(params, memory, *columns)
        return memory, last[:, 0] if self.model.head is None else self.model.head(params, last[:, 0])


@dataclass(frozen=True)
class Recomputing:
    """The memory is the row's tokens; each new token recomputes the whole text.

    Attributes:
        model: A model; ``apply`` is enough.
        capacity: The maximum number of tokens in a row, prompt included.
        length: The number of columns that are recomputed; longer rows must be idle.
    """

    model: LanguageModel
    capacity: int
    length: int

    def empty(self, params: Any, rows: int) -> jax.Array:  # noqa: ARG002
        """No tokens: ``int32[rows, capacity]`` zeros."""
        return jnp.zeros((rows, self.capacity), jnp.int32)

    def read(self, params: Any, tokens: jax.Array, lengths: jax.Array) -> jax.Array:  # noqa: ARG002
        """The tokens themselves."""
        return jnp.pad(tokens, ((0, 0), (0, self.capacity - tokens.shape[1])))

    def advance(
        self, params: Any, memory: Any, token: jax.Array, position: jax.Array, active: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Appends the token and recomputes the text."""
        rows = jnp.arange(len(token))
        memory = memory.at[rows, position].set(jnp.where(active, token, memory[rows, position]))
        parts = row_layout(jnp.where(active, position + 1, 0), self.length)
        inside = jnp.minimum(position, self.length - 1)
        last = self.model.run(params, memory[:, : self.length], *parts)[rows, inside]
        return memory, last if self.model.head is None else self.model.head(params, last)


def empty_slots(memory: Memory, rows: int, history: int, params: Any) -> Slots:
    """Empty slots. Rules need a history of ``history`` tokens per row; 0 without rules."""
    whole, fraction = jnp.zeros(rows, jnp.int32), jnp.zeros(rows, jnp.float32)
    key = jnp.zeros((rows, 2), jnp.uint32)
    remembered = memory.empty(params, rows)
    ruled = Ruled(jnp.zeros((rows, history), jnp.int32), whole) if history else None
    return Slots(remembered, whole, whole, whole, whole, key, whole, fraction, fraction, ruled)


def insert_rows(
    memory: Memory,
    groups: int,
    params: Any,
    slots: Slots,
    tokens: jax.Array,
    whole: jax.Array,
    fractions: jax.Array,
    store: Any = None,
) -> tuple[Slots, Any]:
    """Prefills rows, and puts each into its slot and its state into the store.

    Args:
        memory: How rows store their texts.
        groups: The number of groups that slots and rows are split into.
        params: The model's parameters.
        slots: The current slots.
        tokens: ``int32[rows, length]``, the prompts without their shared prefixes, or shared prefixes.
        whole: ``int32[rows, 10]``, see :data:`WHOLE`. Slots are numbered within the row's group; an index
            past the end means none, as for filler and, in ``slots``, for shared prefixes. The length of
            a prompt includes its last token, which is left to decoding. A prefix has no such token, so its
            length is one higher than its number of tokens.
        fractions: ``float32[rows, 2]``, temperature and ``top_p``.
        store: The states of shared prefixes, if there are any; see :mod:`windrow.scoring.forks.program`.

    Returns:
        The slots and the store; ``None`` for the store if there is none.
    """
    lengths, depths = whole[:, 0], whole[:, 7]
    last = jnp.take_along_axis(tokens, jnp.maximum(lengths - 1, 0)[:, None], axis=1)[:, 0]
    read = _read(memory, groups, params, tokens, whole, store)
    entering = Slots(
        memory=read,
        token=last,
        position=depths + lengths - 1,
        made=jnp.zeros_like(lengths),
        left=whole[:, 2],
        key=jax.lax.bitcast_convert_type(whole[:, 5:7], jnp.uint32),
        top_k=whole[:, 3],
        temperature=fractions[:, 0],
        top_p=fractions[:, 1],
        ruled=None if slots.ruled is None else Ruled(_fitted(tokens, slots.ruled.history), whole[:, 4]),
    )
    kept = None if store is None else store_states(store, read, whole[:, 9], groups)
    return store_states(slots, entering, whole[:, 1], groups), kept


def _read(memory: Memory, groups: int, params: Any, tokens: jax.Array, whole: jax.Array, store: Any) -> Any:
    """The memory of rows after prefill."""
    if store is None:
        return memory.read(params, tokens, whole[:, 0])
    assert isinstance(memory, Stepping)
    state = stored_states(store, whole[:, 8], groups)
    return memory.resume(params, state, tokens, whole[:, 0], whole[:, 7])


def move_rows(groups: int, params: Any, slots: Slots, which: jax.Array) -> Slots:  # noqa: ARG001
    """Moves rows to fewer slots.

    Args:
        groups: The number of groups that slots are split into.
        params: The model's parameters; not used.
        slots: The current slots.
        which: ``int32[fewer]``, for each new slot, the old slot whose row it takes,
            numbered within its group; an index past the end leaves the new slot empty.
    """
    moved: Slots = stored_states(slots, which, groups)
    filled = which < len(slots.left) // groups
    return moved._replace(left=jnp.where(filled, moved.left, 0))


def decode_tokens(
    memory: Memory,
    steps: int,
    choice: Choice,
    end_tokens: tuple[int, ...],
    params: Any,
    slots: Slots,
    stopped: jax.Array,
    rules: RuleTable | None = None,
) -> tuple[Slots, jax.Array]:
    """Generates up to ``steps`` tokens in every slot.

    Args:
        memory: How rows store their texts.
        steps: How many tokens to generate.
        choice: The most general kind of choice that any row needs.
        end_tokens: Tokens after which a row becomes idle, if there are no rules.
        params: The model's parameters.
        slots: The current slots.
        stopped: ``bool[slots]``, the rows that become idle before the first step.
        rules: The table of rules and end tokens, if the run has one.

    Returns:
        The slots, and ``int32[slots, steps]``: the tokens, -1 if the row was idle,
        :data:`~windrow.generation.endings.UNDEFINED` if the chosen token's logit is NaN, as it is wherever
        any logit of a greedy row is; such a row becomes idle.
    """

    def one(slots: Slots, _: None) -> tuple[Slots, jax.Array]:
        active = slots.left > 0
        remembered, logits = memory.advance(params, slots.memory, slots.token, slots.position, active)
        ruled = slots.ruled
        if rules is not None and ruled is not None:
            logits = apply_rules(rules, ruled, slots.position + 1, slots.made, slots.left, logits)
        chosen = choose_tokens(
            logits, choice, slots.key, slots.made, slots.temperature, slots.top_k, slots.top_p
        )
        if rules is not None and ruled is not None:
            ended = jnp.any(chosen[:, None] == rules.ends[ruled.kind], axis=1)
            ruled = ruled._replace(history=_noted(ruled.history, slots.position + 1, chosen, active))
        else:
            ended = jnp.isin(chosen, jnp.array(end_tokens, jnp.int32))
        undefined = jnp.isnan(jnp.take_along_axis(logits, chosen[:, None], axis=1)[:, 0])
        one_more = active.astype(jnp.int32)
        slots = slots._replace(
            memory=remembered,
            token=jnp.where(active, chosen, slots.token),
            position=slots.position + one_more,
            made=slots.made + one_more,
            left=jnp.where(ended | undefined, 0, slots.left - one_more),
            ruled=ruled,
        )
        return slots, jnp.where(active, jnp.where(undefined, UNDEFINED, chosen), -1)

    slots = slots._replace(left=jnp.where(stopped, 0, slots.left))
    slots, emitted = jax.lax.scan(one, slots, length=steps)
    return slots, emitted.T


def _fitted(tokens: jax.Array, history: jax.Array) -> jax.Array:
    """Tokens padded or truncated to the length of the history."""
    length = history.shape[1]
    return jnp.pad(tokens[:, :length], ((0, 0), (0, max(0, length - tokens.shape[1]))))


def _noted(history: jax.Array, at: jax.Array, tokens: jax.Array, active: jax.Array) -> jax.Array:
    """The history with one token appended to each active row."""
    place = jnp.where(active, at, history.shape[1])
    return history.at[jnp.arange(len(at)), place].set(tokens, mode="drop")
