"""The model contract: a few pure functions and their parameters."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from windrow.admission import admit_whole, kind_of

Params = Any
"""A pytree of arrays, which windrow passes on unchanged."""

State = Any
"""A pytree of arrays whose leading axis is rows: a recurrent state or a key-value cache."""

Inputs = Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model, as pure functions of its parameters.

    Only ``apply`` is required. All functions must be traceable by ``jax.jit``. ``tokens``, ``positions`` and
    ``segment_ids`` are ``int32[rows, length]``. Segment id 0 marks padding and filler; real segments count
    from 1 within a row, and positions restart at 0 in each. A causal model may ignore both, because padding
    comes after the real tokens; its rows are then not packed.

    Attributes:
        params: The model's parameters, as any pytree of arrays.
        apply: ``apply(params, tokens, positions, segment_ids)`` returns logits,
            ``[rows, length, vocab]``, in float32 or bfloat16. The logits at a
            position predict the next token.
        max_length: The maximum input length in tokens; ``None`` means no limit, as for a recurrent model.
        hidden: ``hidden(params, tokens, positions, segment_ids)`` returns the input
            of the head, ``[rows, length, width]``. With ``hidden`` and ``head``,
            logits are computed only at scored positions.
        head: ``head(params, picked)`` returns logits ``[picked, vocab]`` for
            ``picked``, ``[picked, width]``.
        init_state: ``init_state(params, rows)`` returns the state before the first token. The leading axis of
            each leaf is rows. If the function has a parameter ``length``, it gets the number of tokens that
            the longest row will hold, at most ``max_length``; a key-value cache need not be longer. The
            tokens in a row plus its next chunk, padding included, never exceed ``length``.
        step: ``step(params, state, tokens, positions, segment_ids)`` returns the
            state after these tokens and, with ``hidden`` and ``head``, the input of
            ``head``, ``[rows, length, width]``, else logits. Positions continue from
            chunk to chunk. The state must not change where the segment id is 0.

    >>> import jax, jax.numpy as jnp
    >>> table = jax.random.normal(jax.random.key(0), (10, 10))
    >>> bigram = LanguageModel(table, lambda params, tokens, *_: params[tokens])
    >>> bigram.apply(bigram.params, *jnp.zeros((3, 2, 4), jnp.int32)).shape
    (2, 4, 10)
    """

    params: Params
    apply: Inputs
    max_length: int | None = None
    hidden: Inputs | None = None
    head: Callable[[Params, jax.Array], jax.Array] | None = None
    init_state: Callable[..., State] | None = None
    step: Callable[[Params, State, jax.Array, jax.Array, jax.Array], tuple[State, jax.Array]] | None = None

    def __post_init__(self) -> None:
        """Rejects incomplete pairs, parts that are not callable, and invalid limits."""
        for name in ("apply", "hidden", "head", "init_state", "step"):
            part = getattr(self, name)
            if not (callable(part) or (part is None and name != "apply")):
                raise TypeError(f"{name} must be a function, not {type(part).__name__}")
            if part is not None:
                _check_parameters(name, part)
        for one, other in (("hidden", "head"), ("init_state", "step")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one} and {other} belong together: give both or neither")
        if self.max_length is not None:
            admit_whole("max_length", self.max_length, also=", or None")

    def __repr__(self) -> str:
        """The model's size, limit and functions, without its arrays.

        >>> import jax.numpy as jnp
        >>> LanguageModel(jnp.zeros((10, 10)), lambda params, tokens, *_: params[tokens], max_length=512)
        LanguageModel(100 parameters, max_length=512, apply)
        """
        size = parameter_count(self.params)
        names = ("apply", "hidden", "head", "init_state", "step")
        has = [name for name in names if getattr(self, name) is not None]
        return f"LanguageModel({size:,} parameters, max_length={self.max_length}, {', '.join(has)})"

    def state_for(self, params: Params, rows: int, length: int) -> State:
        """The state that ``init_state`` returns for rows of at most ``length`` tokens.

        >>> import jax.numpy as jnp
        >>> def init_state(params, rows, length=1024):
        ...     return jnp.zeros((rows, length))
        >>> def step(params, state, *tokens_positions_segment_ids):
        ...     return state, params
        >>> model = LanguageModel(None, step, max_length=512, init_state=init_state, step=step)
        >>> model.state_for(None, 2, 100).shape, model.state_for(None, 2, 1000).shape
        ((2, 100), (2, 512))
        """
        assert self.init_state is not None
        if not self.state_takes_length:
            return self.init_state(params, rows)
        return self.init_state(params, rows, length=self.room(length))

    def room(self, length: int) -> int:
        """The number of tokens that a state must hold: ``length``, at most ``max_length``."""
        return length if self.max_length is None else min(length, self.max_length)

    @property
    def forward(self) -> Inputs:
        """The function that scoring runs: ``hidden`` if given, else ``apply``."""
        return self.apply if self.hidden is None else self.hidden

    def run(self, params: Params, tokens: jax.Array, *batch: Any) -> jax.Array:
        """Runs ``forward``; if it fails, a note on the error gives the shape of the tokens."""
        try:
            return run_forward(self.forward, params, tokens, *batch)
        except Exception as error:  # anything that the model's function raises
            name = "apply" if self.hidden is None else "hidden"
            limit = "if that is too long for the model, set max_length"
            if self.max_length is not None:
                limit = f"max_length is {self.max_length}"
            error.add_note(f"{raised_by(name)} on tokens of shape {list(tokens.shape)}; {limit}")
            raise

    @property
    def takes_reach(self) -> bool:
        """Whether the function that scoring runs has a parameter ``reach``, so that it can run tree rows."""
        return _reach_parameter(self.forward) is not None

    @property
    def state_takes_length(self) -> bool:
        """Whether ``init_state`` has a parameter ``length``."""
        return self.init_state is not None and "length" in inspect.signature(self.init_state).parameters


WRAPPERS = {
    "flax.nnx": "from_nnx(module)",
    "flax.linen": "from_linen(module, variables)",
    "equinox": "from_equinox(module)",
}
"""The function of :mod:`windrow.adapters` for the modules of each library."""


def admit_model(model: Any) -> LanguageModel:
    """``model``, which must be a :class:`LanguageModel`.

    >>> admit_model("gpt2")
    Traceback (most recent call last):
    TypeError: model must be a windrow.LanguageModel, not a str
    """
    if isinstance(model, LanguageModel):
        return model
    raise TypeError(f"model must be a windrow.LanguageModel, not {kind_of(model)}{wrapper_hint(model)}")


def wrapper_hint(value: Any) -> str:
    """The end of an error about a module in place of a model; empty for anything else.

    >>> wrapper_hint("gpt2")
    ''
    """
    found = [wrapper for home, wrapper in WRAPPERS.items() if is_from(home, value)]
    return f"; use windrow.adapters.{found[0]}" if found else ""


def is_from(package: str, value: Any) -> bool:
    """Whether a value's class, or one that it inherits from, is defined in a package.

    >>> is_from("collections", type("Mine", (dict,), {})()), is_from("builtins", {})
    (False, True)
    """
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(value).__mro__)


def parameter_count(params: Params) -> int:
    """The total number of elements in all leaves."""
    return sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(params))


def run_forward(
    function: Inputs,
    params: Params,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    reach: jax.Array | None = None,
) -> jax.Array:
    """Calls ``apply`` or ``hidden``, with ``reach`` if the function takes it.

    Without ``reach``, rows hold no trees; a function that requires it then gets the end of each segment as
    the reach.
    """
    parameter = _reach_parameter(function)
    if parameter is None or (reach is None and parameter.default is not parameter.empty):
        return function(params, tokens, positions, segment_ids)
    if reach is None:
        reach = segment_ends(segment_ids)
    return function(params, tokens, positions, segment_ids, reach=reach)  # type: ignore[call-arg]


def _reach_parameter(function: Callable[..., Any]) -> inspect.Parameter | None:
    try:
        return inspect.signature(function).parameters.get("reach")
    except (TypeError, ValueError):  # some built-in callables have no signature
        return None


def segment_ends(segment_ids: jax.Array) -> jax.Array:
    """The reach in rows without trees; each padding token is seen only by itself."""
    length = segment_ids.shape[1]
    after = jnp.pad(segment_ids[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
    places = jax.lax.broadcasted_iota(jnp.int32, segment_ids.shape, 1) + 1
    is_end = (segment_ids != after) | (segment_ids == 0)
    return jax.lax.cummin(jnp.where(is_end, places, length), axis=1, reverse=True)


def visible(segment_ids: jax.Array, reach: jax.Array | None = None) -> jax.Array:
    """The attention mask of a batch: which tokens each token sees.

    Args:
        segment_ids: ``int32[rows, length]``; 0 is padding.
        reach: ``int32[rows, length]`` of tree rows: token ``j`` is seen by tokens
            ``j`` to ``reach[j] - 1``. Without it, a token sees itself and the earlier
            tokens of its segment.

    Returns:
        ``bool[rows, length, length]``: whether the query token (second axis) sees the key token (third axis).
        Every token sees itself, including padding, so no softmax is empty.

    Two inputs with the shared prefix ``a``, ``a b`` and ``a c``, and padding:

    >>> import jax.numpy as jnp
    >>> visible(jnp.array([[1, 1, 1, 0]]), jnp.array([[3, 2, 3, 4]]))[0].astype(int)
    Array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 0, 0, 1]], dtype=int32)
    """
    at = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    not_later = at[None, None, :] <= at[None, :, None]
    if reach is None:
        return not_later & (segment_ids[:, :, None] == segment_ids[:, None, :])
    return not_later & (at[None, :, None] < reach[:, None, :])


PARAMETERS = {
    "apply": ("params", "tokens", "positions", "segment_ids"),
    "hidden": ("params", "tokens", "positions", "segment_ids"),
    "head": ("params", "picked"),
    "init_state": ("params", "rows"),
    "step": ("params", "state", "tokens", "positions", "segment_ids"),
}
"""The positional arguments of each function."""


RAISED_BY = "raised by"
"""How the note on an error begins if nothing is known about its cause."""


def call_of(name: str) -> str:
    """How windrow calls one of the model's functions.

    >>> call_of("head")
    'head(params, picked)'
    """
    return f"{name}({', '.join(PARAMETERS[name])})"


def raised_by(name: str) -> str:
    """The note on an error that one of the model's functions raised.

    >>> raised_by("head")
    'raised by head(params, picked), when windrow traced it'
    """
    return f"{RAISED_BY} {call_of(name)}, when windrow traced it"


MEANINGS = {
    "position": "positions",
    "segment": "segment_ids",
    "padding": "segment_ids",
    "mask": "segment_ids",
    "train": "train",
    "deterministic": "deterministic",
    "inference": "inference",
    "cache": "a cache",
    "state": "a state",
    "key": "a key",
    "rng": "a key",
    "label": "labels",
    "target": "labels",
}
"""What the third or fourth parameter means, by a part of its name. A padding mask can be segment ids."""


def _check_parameters(name: str, function: Callable[..., Any]) -> None:
    """Rejects a function that does not accept the arguments it will get."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in callables have no signature
        return
    given: dict[str, Any] = {known: None for known in ("length", "reach") if known in signature.parameters}
    try:
        signature.bind(*PARAMETERS[name], **given)
    except TypeError:
        raise TypeError(_called(name, signature)) from None
    misplaced = _misplaced(PARAMETERS[name], signature)
    if misplaced:
        raise TypeError(f"{_called(name, signature)}; {misplaced}")
    module = getattr(function, "__self__", None)
    if is_from("flax.linen", module) and callable(module):  # module.apply
        _check_call(name, module)


def _check_call(name: str, module: Any) -> None:
    """Rejects ``module.apply`` if ``module.__call__`` would get an array in the place of another one."""
    signature = inspect.signature(module)
    # in Flax, a mask is of queries and keys
    misplaced = _misplaced(PARAMETERS[name][1:], signature, {**MEANINGS, "mask": "mask"})
    if misplaced:
        what = f"{type(module).__name__}.__call__"
        raise TypeError(
            f"{_called(name, signature, what)}; {misplaced}. Use windrow.adapters.from_linen, which passes "
            "arrays by name, or write a function that does"
        )


def _called(name: str, signature: inspect.Signature, what: str = "it") -> str:
    return f"{name} is called as {call_of(name)}, but {what} takes {signature}"


def _misplaced(
    given: tuple[str, ...], signature: inspect.Signature, meanings: dict[str, str] = MEANINGS
) -> str:
    """A parameter whose name means something else than the array that it would get, or nothing."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [each.name for each in signature.parameters.values() if each.kind in positional]
    for array, named in zip(given, names, strict=False):
        meant = named if named in given else array
        if array in ("positions", "segment_ids"):
            meant = next((meanings[part] for part in meanings if part in named), meant)
        if meant != array:
            return f"its parameter {named} would get {array}"
    return ""
