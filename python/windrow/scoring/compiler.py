"""Traces programs in the caller's thread, compiles them ahead of time in another, and caches them.

Functions are traced and lowered in the thread that requests them, so everything the caller has set applies:
JAX's context managers, context variables, thread-locals, a library's interceptors. Only XLA compilation moves
to other threads, :data:`AT_ONCE` programs at a time, in request order.

The cache is shared by the whole process. Its key is the lowered program: the text of the StableHLO module,
the input and output tree structures, the devices, and the optimization level. Anything that changes the
program changes that text, so a cached program is only reused for the same computation. Every run that lowers
to the same text skips compilation: a second call, another model object with the same functions, the next
checkpoint. Parameters are arguments, so cached programs do not keep them alive.

The cost is one trace and one lowering per shape and run, some hundredths of a second for a model that scans
over its layers. This work overlaps with compilation and with device time.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Lock, local
from typing import Any

import jax
from jax.sharding import Mesh

from windrow.scoring.lanes import completed

MOST_PROGRAMS = 64
"""The maximum number of compiled programs that the process keeps; the least recently used are dropped
first."""

CPU_OPTIONS: dict[str, Any] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "xla_cpu_use_fusion_emitters": False,
}
"""Compiler options for CPUs, for jaxlib 0.10; other versions may not have them.

- YNNPACK computes matrix products and nothing else. Eigen computes some wrong if two threads or devices do
  that at the same time: the head of Gemma 3 270M returned wrong logits for the first 96 tokens of the
  vocabulary in nearly every run. With YNNPACK's other fusions, the same program (a Llama's ``step`` over 3
  rows of 472 tokens with 512 cached ones) returned NaN in most processes and correct numbers in the others.
- No fusion emitters: programs compile in a half to two thirds of the time, and are as fast."""

GPU_OPTIONS: dict[str, Any] = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0}
"""Compiler options for GPUs: cuBLAS computes matrix products, as its own heuristics suggest.

Trying other kernels takes most of the time to compile. On an H100, with a Llama of a billion parameters and
tree rows of 4,096 tokens, programs compile in 1.0 instead of 4.5 seconds in bfloat16 and in 1.5 instead of 40
seconds in float32, and are no slower."""

AT_ONCE = 2
"""How many programs are compiled at a time. XLA compiles a small program on one core."""

_THREADS = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="windrow-compile")


DISK_BYTES = 1 << 30
"""The maximum number of bytes that :func:`keep_on_disk` keeps; the least recently used programs are dropped
first."""


def keep_on_disk() -> None:
    """Turns on JAX's persistent compilation cache, in the user's cache folder, unless it is configured.

    Programs are kept in ``$XDG_CACHE_HOME/windrow/programs``, by default ``~/.cache/windrow/programs``, so
    running the same tasks and model again compiles nothing. ``JAX_COMPILATION_CACHE_DIR`` sets another
    folder, and ``JAX_ENABLE_COMPILATION_CACHE=false`` turns the cache off. If the folder cannot be created,
    nothing is cached.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None:  # that of JAX_COMPILATION_CACHE_DIR, if it is set
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "windrow" / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_compilation_cache_max_size", DISK_BYTES)
    config.update("jax_persistent_cache_min_compile_time_secs", 0)


class _Store:
    """Compiled programs by key, least recently used first."""

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
        """Adds a program, and drops the least recently used ones beyond :data:`MOST_PROGRAMS`."""
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
    """The programs that one thread's run has requested: not yet lowered, and submitted or compiled."""

    def __init__(self) -> None:
        self.waiting: dict[Hashable, tuple[Any, tuple[Any, ...]]] = {}
        self.made: dict[Hashable, Future[Any]] = {}
        self.runs = 0


class Compiler:
    """Compiles the programs for the runs of one model; the names of programs are valid within a run.

    Args:
        mesh: The mesh that is set while functions are traced.
        level: XLA's optimization level for code that it generates on CPUs; ``None`` for its default, the
            highest. Lower ones compile sooner. Matrix products are library calls, which do not depend on it.
    """

    def __init__(self, mesh: Mesh, level: int | None = None) -> None:
        self._mesh, self._level = mesh, level
        self._asked = _Asked()
        self._used: set[Hashable] = set()

    def __len__(self) -> int:
        """The number of distinct programs used by the runs so far."""
        return len(self._used)

    def has(self, name: Hashable) -> bool:
        """Whether this run has already requested a program."""
        return name in self._asked.made or name in self._asked.waiting

    def ask(self, name: Hashable, function: Any, *arguments: Any) -> None:
        """Requests a program that will be needed, unless this run has already requested ``name``.

        Args:
            name: The name to pass to :meth:`get`.
            function: The result of ``jax.jit(..., keep_unused=True)``.
            arguments: The arguments to lower it for: arrays or ``jax.ShapeDtypeStruct``.
        """
        if not self.has(name):
            self._asked.waiting[name] = function, arguments

    @property
    def is_behind(self) -> bool:
        """Whether requested programs have not been lowered yet."""
        return bool(self._asked.waiting)

    def advance(self) -> None:
        """Traces and lowers the next requested program, and submits it to the compiler thread."""
        if self.is_behind:
            self._begin(next(iter(self._asked.waiting)))

    def done(self, name: Hashable) -> bool:
        """Whether :meth:`get` would return without waiting for the compiler."""
        return self._begin(name).done()

    def get(self, name: Hashable) -> Any:
        """Waits for a requested program and returns it; after a failure it can be requested again."""
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
        """One run. When it ends, with or without an error, its names are forgotten.

        Nested runs share these names. At the end, compilations that have not started are cancelled, because
        the interpreter would wait for them at exit.
        """
        self._asked.runs += 1
        try:
            yield
        finally:
            self._asked.runs -= 1
            if not self._asked.runs:
                self._forget()

    def _forget(self) -> None:
        for made in self._asked.made.values():
            made.cancel()
        self._asked.waiting.clear()
        self._asked.made.clear()

    def _begin(self, name: Hashable) -> Future[Any]:
        waiting, made = self._asked.waiting, self._asked.made
        while name not in made:  # in request order, which is the same on all hosts
            earliest = next(iter(waiting))
            made[earliest] = self._make(*waiting.pop(earliest))
        return made[name]

    def _make(self, function: Any, arguments: tuple[Any, ...]) -> Future[Any]:
        config: Any = jax.config  # its settings are documented but have no type declarations
        if config.jax_disable_jit:
            return completed(self._uncompiled(function))
        with jax.set_mesh(self._mesh):
            lowered = function.lower(*arguments)
        key = _key(lowered, tuple(self._mesh.devices.flat), self._level)
        self._used.add(object() if key is None else key)
        program = None if key is None else STORE.get(key)
        options = _options(self._mesh, self._level)
        return _THREADS.submit(_compile, key, lowered, options) if program is None else completed(program)

    def _uncompiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function run op by op, as ``jax.disable_jit`` requests."""

        def run(*arguments: Any) -> Any:
            with jax.set_mesh(self._mesh):
                return function(*arguments)

        return run


def jitted(function: Callable[..., Any], *bound: Any, **options: Any) -> Any:
    """``jax.jit`` of a function with its first arguments bound, to be requested from a :class:`Compiler`.

    It is traced again each time; JAX would reuse the trace, and miss what the caller has changed since.
    """
    made = partial(function, *bound)
    made.__name__ = function.__name__  # type: ignore[attr-defined]  # JAX 0.9 does not look inside
    return jax.jit(made, keep_unused=True, **options)


def _compile(key: Hashable | None, lowered: Any, options: dict[str, Any]) -> Any:
    if key is None:
        return _compiled(lowered, options)
    if (program := STORE.get(key)) is None:
        program = _compiled(lowered, options)
        STORE.put(key, program)
    return program


def _options(mesh: Mesh, level: int | None) -> dict[str, Any]:
    config: Any = jax.config
    platform = mesh.devices.flat[0].platform
    options = {"cpu": CPU_OPTIONS, "gpu": GPU_OPTIONS}.get(platform, {})
    if level is None or platform != "cpu" or config.read("jax_disable_most_optimizations"):
        return options
    return {**options, "xla_backend_optimization_level": level}


def _compiled(lowered: Any, options: dict[str, Any]) -> Any:
    try:
        return lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        unknown = [name for name in options if f"No such compile option: '{name}'" in str(error)]
        if not unknown:
            raise
        known = {name: value for name, value in options.items() if name not in unknown}
        return _compiled(lowered, known)  # another version of XLA


def _key(lowered: Any, devices: tuple[Any, ...], level: int | None) -> Hashable | None:
    """The cache key of a lowered program; ``None`` if its text does not identify it.

    The text identifies a Python callback only by a number, and omits arrays that are passed in addition to
    the arguments.
    """
    text = lowered.as_text()
    signature = re.search(r"@main\((.*)", text)
    passed = signature[1].count("%arg") if signature else -1
    if "callback" in text or passed != len(jax.tree.leaves(lowered.in_avals)):
        return None
    return blake2b(text.encode()).digest(), lowered.in_tree, lowered.out_tree, devices, level
