"""The demo: trains a tiny model, evaluates it, and shows what batching saved.

It needs only this package, and no network. :mod:`~windrow.demo.model` and :mod:`~windrow.demo.script` show
how to evaluate a JAX function of your own.
"""


def run() -> int:
    """Runs the demo and prints its progress; returns the exit status. Takes about a minute on two cores."""
    from windrow.demo.script import demonstrate

    demonstrate()
    return 0
