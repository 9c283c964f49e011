"""lm_eval's index of its own tasks, which are in thousands of files: read once for all tests."""

import functools
from importlib.metadata import version
from pathlib import Path

import lm_eval.tasks
from lm_eval.tasks._index import TaskIndex

from kept import kept

_OWN = Path(lm_eval.tasks.__file__).parent
_read = TaskIndex.build


def index(folders):
    """As lm_eval makes the index of its tasks; for ``TaskIndex.build``."""
    found = {}
    for folder in folders:
        found |= _own() if folder == _OWN else _read([folder])
    return found


@functools.cache
def _own():
    return kept(lambda: _read([_OWN]), "index", version("lm_eval"), _OWN)
