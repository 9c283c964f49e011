"""The demo: train a tiny model, evaluate it, and show what batching saved.

It needs only the package and no network. :mod:`~windrow.demo.model` and
:mod:`~windrow.demo.script` show how to evaluate a JAX function of your own.
"""


def run() -> int:
    """Runs the demo, printing as it goes; returns the exit status. Takes about a minute on two cores."""
    from windrow.demo.script import demonstrate

    demonstrate()
    return 0
