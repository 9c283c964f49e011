"""Counts the floating-point operations of a function without lowering or compiling it.

A loop's body counts as often as it runs. XLA's cost analysis counts it only once, so blockwise attention over
a long row would seem as cheap as a single block.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax

EXPONENTIAL = 64
"""The number of floating-point operations that an exponential counts as, including a softmax's passes over
memory. Measured on a CPU, with rows of 128 and 512 tokens of a small Llama."""

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
"""Operations that only move numbers; they count as zero."""


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations of a call; arguments may be shapes (`jax.ShapeDtypeStruct`).

    A matrix product counts two operations for each pair of numbers multiplied, an exponential counts
    :data:`EXPONENTIAL`, and other arithmetic one for each output or, in reductions, for each input. A
    conditional counts the mean of its branches. The body of a loop of unknown length counts once. A kernel
    counts what it says it costs; otherwise its body counts once. Custom calls count as zero.

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
    if name == "pallas_call" and (cost := params.get("cost_estimate")) is not None:
        return float(cost.flops + EXPONENTIAL * cost.transcendentals)
    inner = [_of(program) for program in inner_programs(params)]
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


def inner_programs(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation runs: a loop's body, a conditional's branches, a called function."""
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            program = getattr(one, "jaxpr", one)
            if hasattr(program, "eqns"):
                yield program
