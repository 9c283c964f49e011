"""Gets a model and its tokenizer from a function named on the command line."""

import inspect
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from windrow.model import LanguageModel, wrapper_hint

_SHOWN = 8


def call_factory(factory: str) -> tuple[LanguageModel, Any]:
    """Calls a factory and returns its model and tokenizer.

    Args:
        factory: ``"module:function"``; the function takes no arguments.

    Raises:
        ValueError: The module or the function does not exist.
        TypeError: It is not a function, takes arguments, or returns something else.
        RuntimeError: The module or the function raised an error, which is the cause of this one.
    """
    module, separator, name = factory.partition(":")
    if not separator:
        raise ValueError(f"factory must have the form module:function, not {factory!r}")
    make = _find(factory, module, name)
    try:
        made = make()
    except Exception as error:
        raise RuntimeError(_raised(f"factory {factory}", error)) from error
    if not (isinstance(made, Sequence) and len(made) == 2 and isinstance(made[0], LanguageModel)):
        hint = wrapper_hint(made[0] if isinstance(made, Sequence) and made else made)
        raise TypeError(
            f"factory {factory} must return (LanguageModel, tokenizer), not {_described(made)}{hint}"
        )
    return made[0], made[1]


def _find(factory: str, module: str, name: str) -> Callable[[], Any]:
    try:
        found = import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"factory {factory} not found: {error}; is its directory on PYTHONPATH?"
            ) from error
        raise RuntimeError(_raised(f"importing {module} for factory {factory}", error)) from error
    if not hasattr(found, name):
        raise ValueError(f"factory {factory} not found: {module} has no {name!r}; {_offer(found, name)}")
    make = getattr(found, name)
    if not callable(make):
        raise TypeError(f"factory {factory} must be a function, not {type(make).__name__}")
    _check_parameters(factory, make)
    return make  # type: ignore[no-any-return]


def _check_parameters(factory: str, make: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # some built-in callables have no signature
        return
    try:
        signature.bind()
    except TypeError:
        raise TypeError(f"factory {factory} takes {signature}; it must take no required arguments") from None


def _offer(module: Any, name: str) -> str:
    """The functions in a module, those with similar names first."""
    own = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
    own = [each for each in own if getattr(vars(module)[each], "__module__", None) == module.__name__]
    near = get_close_matches(name, own, n=_SHOWN)
    offered = [*near, *(each for each in own if each not in near)]
    if not offered:
        return "it has no functions of its own"
    return f"it has {', '.join(offered[:_SHOWN])}{', ...' if len(offered) > _SHOWN else ''}"


def _raised(what: str, error: Exception) -> str:
    """Which error was raised, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{what} raised {type(error).__name__}: {error}{place}"


def _described(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(part).__name__ for part in made)})"
    return type(made).__name__
