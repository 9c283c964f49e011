"""Compiles ahead, in a thread of its own, under the settings of whoever asks.

JAX's context managers belong to a thread. Those that decide what a program computes
are read where it is asked for, and set again where it is compiled.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import jax
from jax.sharding import Mesh


class Compiler:
    """Compiles programs in the order in which they are asked for.

    Args:
        mesh: The mesh in force meanwhile. The caller's own may have explicit axes,
            which do not go with these.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="windrow-compile")

    def ask(self, lower: Callable[[], Any]) -> Future[Any]:
        """Begins to compile what ``lower`` traces and lowers; the caller's settings hold for both."""
        return self._thread.submit(self._compile, lower, _settings())

    def _compile(self, lower: Callable[[], Any], settings: dict[Any, Any]) -> Any:
        with ExitStack() as inside:
            for setting, value in settings.items():
                inside.enter_context(setting(value))
            inside.enter_context(jax.set_mesh(self._mesh))
            return lower().compile()


def _settings() -> dict[Any, Any]:
    """This thread's settings that decide what a program computes, by their context managers."""
    config: Any = jax.config  # its settings are documented, but not declared
    return {
        jax.default_matmul_precision: config.jax_default_matmul_precision,
        jax.numpy_dtype_promotion: config.jax_numpy_dtype_promotion,
        jax.numpy_rank_promotion: config.jax_numpy_rank_promotion,
        jax.enable_x64: config.jax_enable_x64,
    }
