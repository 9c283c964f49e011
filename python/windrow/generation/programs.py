"""The programs of generation, each of which is compiled once, ahead of its first use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.generation.logits import RuleTable
from windrow.generation.program import (
    WHOLE,
    Memory,
    Slots,
    Stepping,
    decode_tokens,
    empty_slots,
    insert_rows,
    move_rows,
)
from windrow.generation.sampling import Choice
from windrow.scoring import Compiler
from windrow.scoring.forks.program import empty_store
from windrow.sharding import RowSharding
from windrow.sizing.memory import DeviceMemory

_LEVEL = 1
"""XLA's optimization level on CPUs. Programs compile in half to two thirds of the time and decode as fast,
because most of that time is spent in matrix products and in reading the cache."""


@dataclass(frozen=True)
class Begin:
    """Creates empty slots; rows have a history of ``history`` tokens, 0 without rules."""

    memory: Memory
    slots: int
    history: int = 0

    def __str__(self) -> str:
        return f"creating {self.slots} generation slots"


@dataclass(frozen=True)
class Keep:
    """Creates a store for the states of ``slots`` shared prefixes in each group."""

    memory: Stepping
    slots: int

    def __str__(self) -> str:
        return f"creating room for {self.slots} shared prefixes"


@dataclass(frozen=True)
class Insert:
    """Prefills ``rows`` prompts of at most ``length`` tokens and puts them into slots.

    With ``keep``, a row may continue a shared prefix, or be one.
    """

    begin: Begin
    rows: int
    length: int
    keep: Keep | None = None

    def __str__(self) -> str:
        return f"reading {self.rows} prompts of at most {self.length} tokens into {self.begin.slots} slots"


@dataclass(frozen=True)
class Move:
    """Moves rows to fewer slots."""

    begin: Begin
    fewer: Begin

    def __str__(self) -> str:
        return f"moving rows from {self.begin.slots} slots to {self.fewer.slots}"


@dataclass(frozen=True)
class Decode:
    """Generates ``steps`` tokens in every slot.

    ``memory`` may run fewer columns than that of ``begin`` stores. ``rules`` has the shapes of the rule
    table, if the run has one.
    """

    begin: Begin
    memory: Memory
    steps: int
    choice: Choice
    end_tokens: tuple[int, ...]
    rules: RuleTable | None = None

    def __str__(self) -> str:
        return f"generating {self.steps} tokens in each of {self.begin.slots} slots"


Program = Begin | Keep | Insert | Move | Decode


class Programs:
    """Compiles programs on another thread, in the order of :meth:`ask`.

    Slots are donated from one program to the next, so they are not copied.

    Args:
        params: The model's parameters, on the sharding's mesh.
        sharding: How slots and entering rows are split.
    """

    def __init__(self, params: Any, sharding: RowSharding) -> None:
        self._params, self._sharding = params, sharding
        self._compiler = Compiler(sharding.mesh, _LEVEL)
        self._slots = cache(self._slots_of)

    def __len__(self) -> int:
        """The number of distinct programs used so far."""
        return len(self._compiler)

    def ask(self, program: Program) -> None:
        """Asks for a program that will be needed."""
        if not self._compiler.has(program):
            self._compiler.ask(program, self._jitted(program), self._params, *self._arrays(program))

    def advance(self) -> None:
        """Traces the next program asked for, so that it is compiled by the time it is needed."""
        self._compiler.advance()

    def get(self, program: Program) -> Any:
        """A compiled program, with the parameters bound as its first argument; waits for compilation."""
        self.ask(program)
        return partial(self._compiler.get(program), self._params)

    def ready(self, *programs: Program) -> bool:
        """Whether these programs are compiled; always true with several hosts, which must agree."""
        for program in programs:
            self.ask(program)
        return jax.process_count() > 1 or all(map(self._compiler.done, programs))

    def need(self, memory: DeviceMemory, program: Program) -> int:
        """Bytes that a program needs on top of the parameters, including slots; waits for compilation."""
        self.ask(program)
        compiled, arrays = self._compiler.get(program), self._arrays(program)
        return memory.need(compiled, arrays)

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """A run. When it ends, compilations that have not started are cancelled."""
        with self._compiler.one_run():
            try:
                yield
            finally:
                self._slots.cache_clear()

    def _arrays(self, program: Program) -> tuple[Any, ...]:
        """The shapes of a program's arguments after the parameters."""
        match program:
            case Begin():
                self._slots(program)  # checks the state
                return ()
            case Keep():
                return ()
        slots = self._slots(program.begin)
        match program:
            case Insert():
                arrays = (
                    slots,
                    self._struct((program.rows, program.length), jnp.int32),
                    self._struct((program.rows, len(WHOLE)), jnp.int32),
                    self._struct((program.rows, 2), jnp.float32),
                )
                return arrays if program.keep is None else (*arrays, self._store(program.keep))
            case Move():
                return slots, self._struct((program.fewer.slots,), jnp.int32)
            case Decode():
                whole = self._sharding.replicated
                rules = jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), program.rules
                )
                stopped = self._struct((program.begin.slots,), jnp.bool_)
                return (slots, stopped) if rules is None else (slots, stopped, rules)

    def _jitted(self, program: Program) -> Any:
        by_rows, groups = self._sharding.by_rows, self._sharding.groups
        function: Any
        options: dict[str, Any] = {"out_shardings": by_rows}
        match program:
            case Begin():
                function = partial(empty_slots, program.memory, program.slots, program.history)
            case Keep():
                memory = program.memory
                function = partial(empty_store, memory.model, groups, program.slots, memory.capacity)
            case Insert():
                function = partial(insert_rows, program.begin.memory, groups)
                options["donate_argnums"] = 1 if program.keep is None else (1, 5)
            case Move():
                function = partial(move_rows, groups)
            case Decode():
                function = partial(
                    decode_tokens, program.memory, program.steps, program.choice, program.end_tokens
                )
                options = {"out_shardings": (by_rows, self._sharding.replicated), "donate_argnums": 1}
        return jax.jit(function, keep_unused=True, **options)

    def _store(self, keep: Keep) -> Any:
        """The shapes and shardings of a store."""
        memory, groups = keep.memory, self._sharding.groups
        with jax.set_mesh(self._sharding.mesh):
            empty = partial(empty_store, memory.model, groups, keep.slots, memory.capacity)
            shapes = jax.eval_shape(empty, self._params)
        return jax.tree.map(lambda leaf: self._struct(leaf.shape, leaf.dtype), shapes)

    def _slots_of(self, begin: Begin) -> Slots:
        with jax.set_mesh(self._sharding.mesh):
            empty = partial(empty_slots, begin.memory, begin.slots, begin.history)
            shapes = jax.eval_shape(empty, self._params)
        for leaf in jax.tree.leaves(shapes):
            if leaf.ndim == 0 or leaf.shape[0] != begin.slots:
                raise ValueError(
                    f"init_state(params, {begin.slots}) returned a leaf of shape {leaf.shape}; "
                    f"the leading axis of each leaf must have size {begin.slots}, the number of rows"
                )
        made: Slots = jax.tree.map(lambda leaf: self._struct(leaf.shape, leaf.dtype), shapes)
        return made

    def _struct(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self._sharding.by_rows)
