"""The command line: ``windrow run``, ``score``, ``plan``, ``report``, ``ls`` and ``demo``.

Each command is a module that imports its dependencies only when it is called, so ``--help`` is fast.
"""

from windrow.cli.command import main as main

__all__ = ["main"]
