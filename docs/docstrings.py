"""Docstrings as the API reference shows them: examples as code, names as names.

Docstrings are written to be read in a terminal. Here their ``>>>`` examples become
fenced blocks, and roles like ``:class:`` plain names. What the compiled module's
stub describes gets its docstring from the module itself.
"""

import inspect
import re
from importlib import import_module
from typing import Any

import griffe

COMPILED = "_rust"
"""The module that has a stub for its signatures and, compiled, the docstrings."""

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)
_ROLE = re.compile(r":[a-z]+:`~?([\w.]+)`")


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called by griffe once a package and its stubs are loaded."""
        if COMPILED in pkg.members:
            describe(pkg[COMPILED], import_module(f"{pkg.path}.{COMPILED}"))


def describe(stub: griffe.Object, compiled: Any) -> None:
    """Gives members of a stub the docstrings of what they stand for, and classes their constructor."""
    for name, member in [*stub.members.items()]:
        twin = getattr(compiled, name, None)
        if member.is_alias or name.startswith("_") or twin is None:
            continue
        text = inspect.getdoc(twin)
        if member.docstring is None and text:
            options = {"returns_multiple_items": False}
            member.docstring = griffe.Docstring(
                rewritten(text), parent=member, parser="google", parser_options=options
            )
        if isinstance(member, griffe.Class):
            if "__new__" in member.members:
                member["__init__"] = member["__new__"]
            describe(member, twin)


def rewritten(text: str) -> str:
    """The docstring as Markdown.

    >>> rewritten("Adds. See :func:`~windrow.score`.")
    'Adds. See `windrow.score`.'
    """
    return _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", _ROLE.sub(r"`\1`", text))
