"""The embedded default: train a tiny model, evaluate it, show what batching saved.

It needs nothing but the package, and no network. Read :mod:`~windrow.demo.model`
and :mod:`~windrow.demo.script` for how a JAX function of your own gets there.
"""


def run() -> int:
    """Runs the demo, printing as it goes; returns the exit status. Takes under a minute on two cores."""
    from windrow.demo.script import demonstrate

    demonstrate()
    return 0
