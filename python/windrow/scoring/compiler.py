"""Compiles ahead, in a thread of its own, under the settings of whoever asks.

JAX's context managers belong to a thread. Those that decide what a program computes
are read where it is asked for, and set again where it is compiled; under other
settings the same name is another program.
"""

from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
from jax.sharding import Mesh

Settings = tuple[tuple[Any, Any], ...]
"""Context managers of JAX, each with what it is to set."""


class Compiler:
    """Compiles programs, each once under the same settings, in the order in which they are first asked for.

    Args:
        mesh: The mesh in force meanwhile. The caller's own may have explicit axes,
            which do not go with these.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="windrow-compile")
        self._made: dict[tuple[Hashable, Settings], Future[Any]] = {}

    def __len__(self) -> int:
        """How many programs were asked for, each of which is one compilation."""
        return len(self._made)

    def ask(self, name: Hashable, lower: Callable[[], Any]) -> None:
        """Begins to compile what ``lower`` traces and lowers, unless ``name`` was asked for before.

        The caller's settings hold for both.
        """
        settings = _settings()
        if (name, settings) not in self._made:
            self._made[name, settings] = self._thread.submit(self._compile, lower, settings)

    def done(self, name: Hashable) -> bool:
        """Whether what was asked for is compiled."""
        return self._made[name, _settings()].done()

    def get(self, name: Hashable) -> Any:
        """What was asked for, once it is compiled; if that fails, it can be asked for anew."""
        asked = name, _settings()
        try:
            return self._made[asked].result()
        except Exception:
            del self._made[asked]
            raise

    @contextmanager
    def dropping_unbegun(self) -> Iterator[None]:
        """Forgets at the end, also after an error, what is not begun by then; Python's end waits for it."""
        try:
            yield
        finally:
            for asked in [asked for asked, made in self._made.items() if made.cancel()]:
                del self._made[asked]

    def _compile(self, lower: Callable[[], Any], settings: Settings) -> Any:
        with ExitStack() as inside:
            for setting, value in settings:
                inside.enter_context(setting(value))
            inside.enter_context(jax.set_mesh(self._mesh))
            return lower().compile()


def _settings() -> Settings:
    """This thread's settings that decide what a program computes, with their context managers."""
    config: Any = jax.config  # its settings are documented, but not declared
    return (
        (jax.default_matmul_precision, config.jax_default_matmul_precision),
        (jax.numpy_dtype_promotion, config.jax_numpy_dtype_promotion),
        (jax.numpy_rank_promotion, config.jax_numpy_rank_promotion),
        (jax.enable_x64, config.jax_enable_x64),
    )
