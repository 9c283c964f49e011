"""Docstrings as the API reference shows them: examples as code, names as names.

Docstrings are written to be read in a terminal. Here their ``>>>`` examples become
fenced blocks, and roles like ``:class:`` plain names.
"""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)
_ROLE = re.compile(r":[a-z]+:`~?([\w.]+)`")


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """The docstring as Markdown.

    >>> rewritten("Adds. See :func:`~windrow.score`.")
    'Adds. See `windrow.score`.'
    """
    return _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", _ROLE.sub(r"`\1`", text))
