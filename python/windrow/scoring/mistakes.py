"""What to do about mistakes that show while a model's functions are traced.

Modules of other libraries fail with errors that a newcomer cannot place: with dropout on, they ask for a
random key, or fail to update their own variables.
"""

import math
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from windrow.model import RAISED_BY
from windrow.scoring.operations import inner_programs

REMEDIES = {
    "positional argument": "",
    "Cannot mutate Param": "leave out nnx.jit, because windrow compiles the functions itself, or use "
    "windrow.adapters.from_nnx",
    "TraceContextError": "the module changes its own variables, as dropout and batch statistics do: call "
    "module.eval() before nnx.split, or use windrow.adapters.from_nnx",
    "No `deterministic` argument": "call module.eval() before nnx.split, or pass deterministic=True",
    "InvalidRngError": "dropout is on: pass deterministic=True, or whatever turns it off in this module",
    "requires a key when running in non-deterministic mode": "dropout is on: use "
    "equinox.nn.inference_mode(module), or windrow.adapters.from_equinox",
    "ScopeCollectionNotFound": "params must be the variables that module.init returned, {'params': ...} and "
    "its other collections",
    "ModifyScopeVariableError": "the module stores something while it runs: pass what turns off training and "
    "decoding, such as use_running_average=True or decode=False",
    "Incorrect number of leaves": "params must be all of the module's state: pass everything but the graph "
    "that nnx.split returned, and merge all of it",
}
"""Remedies, by a part of the error's type or message."""

STATIC = ("ConcretizationTypeError", "TracerIntegerConversion", "TracerBoolConversion", "concrete values")
"""Parts of the errors that JAX raises if a number must be known during tracing."""

UNTRACEABLE = (*STATIC, "TracerArrayConversionError", "NonConcreteBooleanIndexError")
"""Parts of the errors that JAX raises if Python or NumPy needs the values of a traced array."""

DRAWS = (
    "draws random numbers, so scores may depend on the batch; if this is dropout, turn it off with "
    "module.eval(), deterministic=True or equinox.nn.inference_mode"
)
"""The warning about a function that draws random numbers, without the function's name."""

PROBABILITIES = (
    "the model seems to return probabilities: every token's log-probability is close to a uniform guess, and "
    "none is below it. Return logits, without a softmax"
)
"""The warning about a model that returns probabilities in place of logits."""

LEAST_TOKENS = 16
"""The number of scored tokens from which probabilities in place of logits are recognized."""

_RANDOM = frozenset(["random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"])
"""JAX's operations that draw random numbers."""


def remedy_for(error: Exception, params: Any) -> str | None:
    """What follows an error's message to say what to do about it; ``None`` if that is not known.

    >>> remedy_for(TypeError("f() takes 1 positional argument but 4 were given"), {})
    ''
    >>> remedy_for(KeyError("embed"), {}) is None
    True
    """
    description = _description(error)
    leaves = jax.tree.leaves_with_path(params)
    numbers = [path for path, leaf in leaves if getattr(leaf, "weak_type", False)]
    if numbers and any(part in description for part in STATIC):
        where = f"params{jax.tree_util.keystr(numbers[0])}"
        return f"; {where} is traced, like all of params: keep sizes and flags in the function instead"
    found = next((REMEDIES[part] for part in REMEDIES if part in description), None)
    return f"; {found}" if found else found


def tracing_hint(error: Exception) -> str:
    """What to do if a function cannot be traced because it needs the values of arrays; otherwise empty.

    >>> tracing_hint(KeyError("embed"))
    ''
    """
    if not any(part in _description(error) for part in UNTRACEABLE):
        return ""
    return (
        "; use jax.numpy in place of numpy, jnp.where in place of if, and shapes where sizes are needed: "
        "values of arrays are not known then"
    )


def _description(error: Exception) -> str:
    return f"{[base.__name__ for base in type(error).__mro__]}: {error}"


def first_line(error: Exception) -> str:
    """The first line of an error's message, without a link.

    >>> first_line(ValueError("No key. (https://example.org)"))
    'No key'
    """
    return str(error).strip().partition("\n")[0].partition(" (https://")[0].rstrip(".")


def summary(error: Exception) -> str:
    """An error's type, the first line of its message, and which of the model's functions raised it, if known.

    >>> summary(KeyError("embed")), summary(AssertionError())
    ("KeyError: 'embed'", 'AssertionError: no message')
    """
    first = str(error).splitlines()[0] if str(error) else "no message"
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(RAISED_BY)]
    return ", ".join([f"{type(error).__name__}: {first}", *notes])


def draws_random_numbers(program: Any) -> bool:
    """Whether a traced program draws random numbers; making and splitting keys does not count.

    >>> draws_random_numbers(jax.make_jaxpr(lambda x: x + jax.random.normal(jax.random.key(0)))(1.0).jaxpr)
    True
    >>> draws_random_numbers(jax.make_jaxpr(lambda x: jax.random.fold_in(jax.random.key(0), x))(1).jaxpr)
    False
    """
    return any(
        equation.primitive.name in _RANDOM or any(map(draws_random_numbers, inner_programs(equation.params)))
        for equation in program.eqns
    )


def look_like_probabilities(logprobs: NDArray[np.float32], vocabulary: int) -> bool:
    """Whether log-probabilities come from probabilities in place of logits.

    A softmax of probabilities gives each token at least ``1 / (vocabulary - 1 + e)``, a little less than a
    uniform guess, and at most ``e`` times a uniform guess. Few models give every token that much, unless they
    give all tokens the same.

    Args:
        logprobs: ``float32[m]``, the log-probabilities of scored tokens, in nats.
        vocabulary: The vocabulary size.

    >>> guess = np.full(20, -math.log(999 + math.e), np.float32)
    >>> [look_like_probabilities(guess + more, 1000) for more in (np.linspace(0, 0.9, 20), 0, np.arange(20))]
    [True, False, False]
    """
    if len(logprobs) < LEAST_TOKENS:
        return False
    uniform, least = -math.log(vocabulary), -math.log(vocabulary - 1 + math.e)
    lowest, highest = float(logprobs.min()), float(logprobs.max())
    peaked = highest - uniform > 0.01 + 10 * (uniform - least)
    return least - 1e-4 <= lowest and highest <= uniform + 1 and peaked
