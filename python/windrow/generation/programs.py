"""Compiled programs: few shapes, each compiled once and ahead of its first use."""

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
    decode_tokens,
    empty_slots,
    insert_rows,
    move_rows,
)
from windrow.generation.sampling import Choice
from windrow.scoring import Compiler
from windrow.sharding import DeviceMemory, RowSharding


@dataclass(frozen=True)
class Begin:
    """Makes so many empty slots, with a history of so many tokens where there are rules."""

    memory: Memory
    slots: int
    history: int = 0

    def __str__(self) -> str:
        return f"making {self.slots} slots for generated texts"


@dataclass(frozen=True)
class Insert:
    """Reads so many prompts of a padded length and puts them into slots."""

    begin: Begin
    rows: int
    length: int

    def __str__(self) -> str:
        return f"reading {self.rows} prompts of {self.length} tokens into {self.begin.slots} slots"


@dataclass(frozen=True)
class Move:
    """Takes rows into fewer slots."""

    begin: Begin
    fewer: Begin

    def __str__(self) -> str:
        return f"moving rows from {self.begin.slots} slots to {self.fewer.slots}"


@dataclass(frozen=True)
class Decode:
    """Makes so many tokens in every slot; ``memory`` may read less than that of ``begin`` holds.

    ``rules`` are the shapes of the table that it is given, where a run has any.
    """

    begin: Begin
    memory: Memory
    steps: int
    choice: Choice
    end_tokens: tuple[int, ...]
    rules: RuleTable | None = None

    def __str__(self) -> str:
        return f"generating {self.steps} tokens in each of {self.begin.slots} slots"


Program = Begin | Insert | Move | Decode


class Programs:
    """Compiles programs in a thread of its own, in the order in which they are asked for.

    Slots are handed from program to program: none of their memory is copied.

    Args:
        params: The model's parameters, on the sharding's mesh.
        sharding: How slots and entering rows are split.
    """

    def __init__(self, params: Any, sharding: RowSharding) -> None:
        self._params, self._sharding = params, sharding
        self._compiler = Compiler(sharding.mesh)
        self._slots = cache(self._slots_of)

    def __len__(self) -> int:
        """How many programs were asked for, each of which is one compilation."""
        return len(self._compiler)

    def ask(self, program: Program) -> None:
        """Takes note of a program that will be needed."""
        self._compiler.ask(program, self._jitted(program), self._params, *self._arrays(program))

    def advance(self) -> None:
        """Traces the next program that was asked for, so that it is compiled by the time it is needed."""
        self._compiler.advance()

    def get(self, program: Program) -> Any:
        """A compiled program; the parameters are its first argument already."""
        self.ask(program)
        return partial(self._compiler.get(program), self._params)

    def ready(self, *programs: Program) -> bool:
        """Whether nobody need wait for these; with several hosts, which must do alike, always."""
        for program in programs:
            self.ask(program)
        return jax.process_count() > 1 or all(map(self._compiler.done, programs))

    def need(self, memory: DeviceMemory, program: Program) -> int:
        """Bytes that a program needs beside the parameters, slots included; waits until it is compiled."""
        self.ask(program)
        compiled, arrays = self._compiler.get(program), self._arrays(program)
        return memory.need(compiled, arrays)

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """A run: at its end what was asked for is forgotten, and what is not begun is not compiled."""
        with self._compiler.one_run():
            try:
                yield
            finally:
                self._slots.cache_clear()

    def _arrays(self, program: Program) -> tuple[Any, ...]:
        """What a program is given besides the parameters."""
        slots = self._slots(program.begin if not isinstance(program, Begin) else program)
        match program:
            case Begin():
                return ()
            case Insert():
                return (
                    slots,
                    self._struct((program.rows, program.length), jnp.int32),
                    self._struct((program.rows, len(WHOLE)), jnp.int32),
                    self._struct((program.rows, 2), jnp.float32),
                )
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
            case Insert():
                function = partial(insert_rows, program.begin.memory, groups)
                options["donate_argnums"] = 1
            case Move():
                function = partial(move_rows, groups)
            case Decode():
                function = partial(
                    decode_tokens, program.memory, program.steps, program.choice, program.end_tokens
                )
                options = {"out_shardings": (by_rows, self._sharding.replicated), "donate_argnums": 1}
        return jax.jit(function, keep_unused=True, **options)

    def _slots_of(self, begin: Begin) -> Slots:
        with jax.set_mesh(self._sharding.mesh):
            empty = partial(empty_slots, begin.memory, begin.slots, begin.history)
            shapes = jax.eval_shape(empty, self._params)
        for leaf in jax.tree.leaves(shapes):
            if leaf.ndim == 0 or leaf.shape[0] != begin.slots:
                raise ValueError(
                    f"init_state(params, {begin.slots}) gives a leaf of shape {leaf.shape}; "
                    f"each leaf's leading axis must count the {begin.slots} rows"
                )
        made: Slots = jax.tree.map(lambda leaf: self._struct(leaf.shape, leaf.dtype), shapes)
        return made

    def _struct(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self._sharding.by_rows)
