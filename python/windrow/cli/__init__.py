"""The command line: ``windrow run``, ``windrow plan``, ``windrow report``, ``windrow ls``, ``windrow demo``.

Each command is a module here that loads what it needs when it is called, so that
help comes at once.
"""

from windrow.cli.command import main as main

__all__ = ["main"]
