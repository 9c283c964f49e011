"""Wraps models from other libraries as :class:`windrow.LanguageModel`, where that takes more than two lines.

Flax and Equinox are imported only when one of their modules is passed in.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from windrow.admission import kind_of
from windrow.model import RAISED_BY, LanguageModel

Cache = Any
"""A pytree of arrays: a library's cache for one row."""


def causal_mask(positions: jax.Array, segment_ids: jax.Array, reach: jax.Array | None = None) -> jax.Array:
    """The attention mask of a batch, with an axis for heads, as most libraries expect it.

    Args:
        positions: ``int32[rows, length]``.
        segment_ids: ``int32[rows, length]``; 0 is padding.
        reach: ``int32[rows, length]`` of tree rows, as for :func:`windrow.visible`.

    Returns:
        ``bool[rows, 1, length, length]``: whether the query token (third axis) sees the key token (last
        axis). A token sees itself and the earlier tokens of its segment; in tree rows, itself and the earlier
        tokens that reach it.

    >>> causal_mask(jnp.array([[0, 1, 0]]), jnp.array([[1, 1, 2]]))[0, 0].astype(int)
    Array([[1, 0, 0],
           [1, 1, 0],
           [0, 0, 1]], dtype=int32)
    """
    if reach is None:
        not_later = positions[:, None, :] <= positions[:, :, None]
        return (not_later & (segment_ids[:, :, None] == segment_ids[:, None, :]))[:, None]
    at = jnp.arange(positions.shape[1], dtype=jnp.int32)
    not_later = at[None, None, :] <= at[None, :, None]
    return (not_later & (at[None, :, None] < reach[:, None, :]))[:, None]


def cached(
    empty: Callable[[Any, int], Cache],
    call: Callable[..., tuple[jax.Array, Cache]],
    rewind: Callable[[Cache, jax.Array], Cache],
) -> dict[str, Callable[..., Any]]:
    """Turns a cache with one write index for all rows into a state for rows of different lengths.

    Each row gets its own cache, and ``jax.vmap`` runs the model over the rows. After each chunk, the write
    index is set back to the row's number of real tokens, so the next chunk overwrites the padding.

    Args:
        empty: ``empty(params, length)`` returns a cache of batch size 1 with room for ``length`` tokens.
        call: ``call(params, cache, tokens, positions, mask)`` returns logits, ``[1, columns, vocab]``, and
            the cache after writing ``tokens`` at the write index. Tokens and positions are
            ``int32[1, columns]``. ``mask`` is a function: for a cache with ``length`` slots, ``mask(length)``
            is ``bool[1, columns, length]``, whether a token sees a slot.
        rewind: ``rewind(cache, index)`` returns the cache with its write index at ``index``, an ``int32``.

    Returns:
        ``init_state`` and ``step`` for :class:`windrow.LanguageModel`: ``LanguageModel(params, apply,
        max_length, **cached(empty, call, rewind))``. Rows of such a state cannot be packed.

    A cache of token ids, with one-hot logits at the sum of all tokens so far:

    >>> def empty(params, length):
    ...     return {"seen": jnp.zeros((1, length), jnp.int32), "index": jnp.int32(0)}
    >>> def call(params, cache, tokens, positions, mask):
    ...     seen = jax.lax.dynamic_update_slice(cache["seen"], tokens, (0, cache["index"]))
    ...     sums = jnp.where(mask(seen.shape[1]), seen[:, None], 0).sum(axis=2)
    ...     return jax.nn.one_hot(sums, 9), {"seen": seen, "index": cache["index"] + tokens.shape[1]}
    >>> parts = cached(empty, call, lambda cache, index: {**cache, "index": index})
    >>> state, ids = parts["init_state"](None, 2, 4), jnp.array([[1, 1], [1, 0]])
    >>> state, _ = parts["step"](None, state, jnp.array([[1, 2], [3, 8]]), jnp.array([[0, 1], [0, 1]]), ids)
    >>> _, logits = parts["step"](None, state, jnp.array([[1], [1]]), jnp.array([[2], [1]]), ids[:, :1])
    >>> logits.argmax(axis=2).tolist()
    [[4], [4]]
    """

    def init_state(params: Any, rows: int, length: int) -> Any:
        one = empty(params, length)
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *jnp.shape(leaf))), one)
        return state, jnp.zeros(rows, jnp.int32)

    def step(
        params: Any, state: Any, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
    ) -> tuple[Any, jax.Array]:
        def one_row(cache: Cache, used: jax.Array, *columns: jax.Array) -> tuple[Cache, jax.Array, jax.Array]:
            tokens, positions, segment_ids = (column[None] for column in columns)

            def mask(length: int) -> jax.Array:
                return jnp.arange(length, dtype=jnp.int32)[None, None] <= positions[:, :, None]

            logits, cache = call(params, cache, tokens, positions, mask)
            used = used + jnp.sum(segment_ids > 0, dtype=jnp.int32)
            return rewind(cache, used), used, logits[0]

        caches, used, logits = jax.vmap(one_row)(*state, tokens, positions, segment_ids)
        return (caches, used), logits

    return {"init_state": init_state, "step": step}


def from_nnx(module: Any, *, max_length: int | None = None, **parts: Any) -> LanguageModel:
    """Wraps a copy of a Flax NNX module in evaluation mode.

    Its ``__call__`` returns logits, or an object with ``logits``. The first parameter gets the tokens,
    whatever its name. Parameters named ``positions``, ``segment_ids``, ``reach`` and ``mask`` (see
    :func:`causal_mask`) get these arrays. Anything the module stores while it runs is discarded.

    Args:
        module: An ``nnx.Module``.
        max_length: As for :class:`windrow.LanguageModel`; ``parts`` likewise.
        parts: ``hidden``, ``head``, ``init_state``, ``step``.
    """
    nnx = import_module("flax.nnx")
    names = _calling("from_nnx", nnx.Module, module)
    frozen = nnx.clone(module)
    frozen.eval()
    graph, params = nnx.split(frozen)

    def merged(params: Any) -> Callable[..., Any]:
        # Copied, since a module may write only to variables that were made in the trace it runs in.
        made: Callable[..., Any] = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, params))
        return made

    return LanguageModel(params, _applied(names, merged), max_length, **parts)


def from_linen(module: Any, variables: Any, *, max_length: int | None = None, **parts: Any) -> LanguageModel:
    """Wraps a Flax Linen module and its variables; ``__call__`` gets the same arrays as in :func:`from_nnx`.

    Args:
        module: A ``flax.linen.Module``; its fields must turn dropout off.
        variables: The result of ``module.init``.
        max_length: As for :class:`windrow.LanguageModel`; ``parts`` likewise.
        parts: ``hidden``, ``head``, ``init_state``, ``step``.
    """
    names = _calling("from_linen", import_module("flax.linen").Module, module)
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables must be what module.init returned, a dict, not {kind_of(variables)}")

    def bound(variables: Any) -> Callable[..., Any]:
        return lambda *given, **named: module.apply(variables, *given, **named)

    return LanguageModel(variables, _applied(names, bound), max_length, **parts)


def from_equinox(module: Any, *, max_length: int | None = None, **parts: Any) -> LanguageModel:
    """Wraps a copy of an Equinox module, which is written for one row, in inference mode.

    ``__call__`` gets the same arrays as in :func:`from_nnx`, but without the row axis, because it runs under
    ``jax.vmap``. ``mask`` is ``bool[length, length]``, as Equinox's attention takes it.

    Args:
        module: An ``eqx.Module``.
        max_length: As for :class:`windrow.LanguageModel`; ``parts`` likewise.
        parts: ``hidden``, ``head``, ``init_state``, ``step``.
    """
    eqx = import_module("equinox")
    names = _calling("from_equinox", eqx.Module, module)
    params, rest = eqx.partition(eqx.nn.inference_mode(module), eqx.is_array)

    def by_rows(params: Any) -> Callable[..., Any]:
        def call(tokens: jax.Array, **named: jax.Array) -> Any:
            one = eqx.combine(params, rest)
            if "mask" in named:
                named["mask"] = named["mask"][:, 0]  # its attention takes one mask for all heads
            try:
                return jax.vmap(lambda tokens, named: one(tokens, **named))(tokens, named)
            except Exception as error:  # anything that the module raises
                what = f"{type(module).__name__}.__call__"
                error.add_note(
                    f"{RAISED_BY} {what}, which from_equinox calls with one row, int32[length], at a time"
                )
                raise

        return call

    return LanguageModel(params, _applied(names, by_rows), max_length, **parts)


GIVEN = ("positions", "segment_ids", "reach", "mask")
"""Arrays that a module gets by name, in addition to the tokens."""


def _calling(function: str, kind: type, module: Any) -> tuple[str, ...]:
    """The names in :data:`GIVEN` that a module's ``__call__`` has parameters for.

    Raises:
        TypeError: It is not a module of this kind, or its ``__call__`` requires something else.
    """
    if not isinstance(module, kind):
        what = f"the class {module.__name__}" if isinstance(module, type) else kind_of(module)
        library = ".".join(kind.__module__.split(".")[:2]).removesuffix("._module")
        raise TypeError(f"{function} takes an instance of {library}.{kind.__name__}, not {what}")
    name = type(module).__name__
    if not callable(module):
        raise TypeError(f"{function} calls the module, but {name} has no __call__")
    parameters = list(inspect.signature(module).parameters.values())[1:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]
    missing = [each for each in required if each not in GIVEN]
    if missing:
        raise TypeError(
            f"{name}.__call__ requires {', '.join(missing)}, but {function} passes only tokens, "
            f"{', '.join(GIVEN)}; give it a default for evaluation, or write your own apply"
        )
    return tuple(each.name for each in parameters if each.name in GIVEN)


def _applied(names: tuple[str, ...], bound: Callable[[Any], Callable[..., Any]]) -> Callable[..., jax.Array]:
    """``apply``, with a parameter ``reach`` if the module can use it."""

    def run(params: Any, tokens: jax.Array, given: dict[str, Any]) -> jax.Array:
        if "mask" in names:
            given["mask"] = causal_mask(given["positions"], given["segment_ids"], given["reach"])
        output = bound(params)(tokens, **{name: given[name] for name in names})
        logits: jax.Array = getattr(output, "logits", output)
        return logits

    def with_reach(
        params: Any, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array, reach: Any = None
    ) -> jax.Array:
        return run(params, tokens, {"positions": positions, "segment_ids": segment_ids, "reach": reach})

    def without(params: Any, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        return with_reach(params, tokens, positions, segment_ids)

    return with_reach if {"reach", "mask"} & set(names) else without
