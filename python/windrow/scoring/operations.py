"""Counts the floating-point operations of a function, before anything is lowered or compiled.

The counts follow the loops. XLA's cost analysis counts a loop's body once however often it runs, so it would
find attention that takes a long row in blocks as cheap as one block.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax

EXPONENTIAL = 64
"""How many floating-point operations an exponential counts as, including a softmax's passes over memory.
Measured on a CPU, with rows of 128 and 512 tokens of a small Llama."""

_EXPONENTIALS = frozenset(
    ["exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "erf", "erfc", "sin", "cos", "pow"]
)
_MOVES = frozenset(
    [
        "reshape",
        "broadcast_in_dim",
        "transpose",
        "squeeze",
        "rev",
        "copy",
        "convert_element_type",
        "iota",
        "slice",
        "dynamic_slice",
        "dynamic_update_slice",
        "concatenate",
        "split",
        "pad",
        "gather",
        "bitcast_convert_type",
        "optimization_barrier",
        "stop_gradient",
        "sharding_constraint",
        "reshard",
    ]
)
"""What only moves numbers counts nothing."""


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations of a call; arguments may be shapes (`jax.ShapeDtypeStruct`).

    A product of matrices counts two for each pair of numbers multiplied, an exponential :data:`EXPONENTIAL`,
    other arithmetic one for each number made or, in reductions, read. Of a condition's branches, the mean
    counts; the body of a loop whose length is not known counts once, as does a kernel's. Custom calls count
    nothing.

    >>> x = jax.ShapeDtypeStruct((4, 8), "float32")
    >>> operations(lambda x: x @ x.T, x)
    256.0
    >>> operations(lambda x: jax.lax.scan(lambda y, _: (y + x, None), x, length=3)[0], x)
    96.0
    """
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(program: Any) -> float:
    return sum(map(_of_equation, program.eqns))


def _of_equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    made = _size(equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left: tuple[int, ...] = equation.invars[0].aval.shape
        return float(2 * made * prod(left[axis] for axis in contracted))
    if name.startswith("ragged_dot"):
        return 2.0 * made * int(equation.invars[0].aval.shape[-1])
    if name == "conv_general_dilated":
        kernel: tuple[int, ...] = equation.invars[1].aval.shape
        outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        return float(2 * made * prod(kernel) / outputs)
    inner = [_of(program) for program in _programs(params)]
    if name == "cond":
        return sum(inner) / len(inner)
    if inner:
        turns: int = params["length"] if name == "scan" else 1
        return sum(inner) * turns
    if name in _MOVES:
        return 0.0
    if name.startswith(("reduce", "cum", "arg")):
        return float(_size(equation.invars))
    return float(made) * (EXPONENTIAL if name in _EXPONENTIALS else 1)


def _size(variables: Any) -> int:
    return sum(prod(getattr(variable.aval, "shape", ())) for variable in variables)


def _programs(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation runs: a loop's body, a condition's branches, a function called."""
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            program = getattr(one, "jaxpr", one)
            if hasattr(program, "eqns"):
                yield program
