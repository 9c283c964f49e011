"""lm_eval's index of its own tasks; of their thousands of files, only two folders are read."""

import functools
from importlib.metadata import version
from pathlib import Path

import lm_eval.tasks
from lm_eval.tasks._index import TaskIndex

from kept import kept

_OWN = Path(lm_eval.tasks.__file__).parent
_READ = ("arc", "mmlu")
_read = TaskIndex.build


def index(folders):
    """Replaces ``TaskIndex.build``."""
    found = {}
    for folder in folders:
        found |= _own() if folder == _OWN else _read([folder])
    return found


@functools.cache
def _own():
    return kept(lambda: _read([_OWN / name for name in _READ]), "index", version("lm_eval"), _OWN, _READ)
