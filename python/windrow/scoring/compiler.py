"""Programs: traced in the caller's thread, compiled ahead in another, shared by the whole process.

Functions are traced and lowered where they are asked for, under everything the caller has set: JAX's
context managers, context variables, thread-locals, a library's own interceptors. Only XLA's work goes to
another thread, one program at a time, in the order of asking.

What was lowered identifies a program: the text of its StableHLO module, the structure of what goes in and
out, and the devices. Whatever changes a program changes that text, so a program is never reused where
another one was meant, and any run that lowers to the same text gets it without compiling: a second call,
another model object over the same functions, the next checkpoint. Parameters are arguments, so no program
keeps them alive.

The cost is one trace and one lowering for each shape and run, some hundredths of a second for a model that
scans over its layers. They are made while the compiler or the devices are busy.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from threading import Lock, local
from typing import Any

import jax
from jax.sharding import Mesh

MOST_PROGRAMS = 64
"""How many compiled programs the process keeps; those not used for longest go first."""

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="windrow-compile")


class _Store:
    """Compiled programs by what was lowered, the one used last at the end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._programs)

    def get(self, key: Hashable) -> Any:
        """A program, or ``None``."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def put(self, key: Hashable, program: Any) -> None:
        """Keeps a program, and drops the one that has not been used for longest if there are too many."""
        with self._lock:
            self._programs[key] = program
            self._programs.move_to_end(key)
            while len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        """Drops all programs."""
        with self._lock:
            self._programs.clear()


STORE = _Store()
"""The programs of this process."""


class _Asked(local):
    """What one thread's run has asked for: not lowered yet, and compiled or being compiled."""

    def __init__(self) -> None:
        self.waiting: dict[Hashable, tuple[Any, tuple[Any, ...]]] = {}
        self.made: dict[Hashable, Future[Any]] = {}


class Compiler:
    """The programs of one model's runs, by names that hold during a run.

    Args:
        mesh: The mesh in force while functions are traced.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._asked = _Asked()
        self._used: set[Hashable] = set()

    def __len__(self) -> int:
        """How many different programs the runs so far have used."""
        return len(self._used)

    def ask(self, name: Hashable, function: Any, *arguments: Any) -> None:
        """Takes note of a program that will be needed, unless ``name`` was asked for in this run.

        Args:
            name: What :meth:`get` is called with.
            function: As ``jax.jit(..., keep_unused=True)`` returns it.
            arguments: What it is lowered for: arrays, or ``jax.ShapeDtypeStruct`` in their place.
        """
        if name not in self._asked.made:
            self._asked.waiting.setdefault(name, (function, arguments))

    def advance(self) -> None:
        """Traces and lowers the next program that was asked for, and hands it to the compiling thread."""
        if self._asked.waiting:
            self._begin(next(iter(self._asked.waiting)))

    def done(self, name: Hashable) -> bool:
        """Whether what was asked for can be had without waiting for the compiler."""
        return self._begin(name).done()

    def get(self, name: Hashable) -> Any:
        """What was asked for, once it is compiled; if that fails, it can be asked for again."""
        made = self._begin(name)
        while self._asked.waiting and not made.done():
            self.advance()
        try:
            return made.result()
        except Exception:
            del self._asked.made[name]
            raise

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """A run: at its end, also after an error, its names are forgotten.

        So is what the compiling thread has not begun, as Python's own end waits for that.
        """
        try:
            yield
        finally:
            for made in self._asked.made.values():
                made.cancel()
            self._asked.waiting.clear()
            self._asked.made.clear()

    def _begin(self, name: Hashable) -> Future[Any]:
        waiting, made = self._asked.waiting, self._asked.made
        while name not in made:  # in the order of asking, which is the same on all hosts
            earliest = next(iter(waiting))
            made[earliest] = self._make(*waiting.pop(earliest))
        return made[name]

    def _make(self, function: Any, arguments: tuple[Any, ...]) -> Future[Any]:
        config: Any = jax.config  # its settings are documented, but not declared
        if config.jax_disable_jit:
            return _known(self._as_it_is(function))
        with jax.set_mesh(self._mesh):
            lowered = function.lower(*arguments)
        key = _key(lowered, tuple(self._mesh.devices.flat))
        self._used.add(object() if key is None else key)
        program = None if key is None else STORE.get(key)
        return _THREAD.submit(_compile, key, lowered) if program is None else _known(program)

    def _as_it_is(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function uncompiled, operation by operation, as ``jax.disable_jit`` asks for."""

        def run(*arguments: Any) -> Any:
            with jax.set_mesh(self._mesh):
                return function(*arguments)

        return run


def _compile(key: Hashable | None, lowered: Any) -> Any:
    if key is None:
        return lowered.compile()
    if (program := STORE.get(key)) is None:
        program = lowered.compile()
        STORE.put(key, program)
    return program


def _known(program: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(program)
    return future


def _key(lowered: Any, devices: tuple[Any, ...]) -> Hashable | None:
    """What identifies a lowered program; ``None`` where its text does not say all.

    The text names a callback into Python by a number alone, and leaves out arrays that are passed beside
    the arguments.
    """
    text = lowered.as_text()
    signature = re.search(r"@main\((.*)", text)
    passed = signature[1].count("%arg") if signature else -1
    if "callback" in text or passed != len(jax.tree.leaves(lowered.in_avals)):
        return None
    return blake2b(text.encode()).digest(), lowered.in_tree, lowered.out_tree, devices
