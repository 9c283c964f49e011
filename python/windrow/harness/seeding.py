"""The seed that lm_eval was given for samples.

lm_eval hands its seeds to the random generators of Python, NumPy and, where it is
installed, torch, whose generator its Hugging Face backend samples from. It hands none
to a model. JAX has no generator that could be seeded, and torch need not be there, so
the seed is read where it always is: from the call of ``lm_eval.simple_evaluate`` that
this one is inside of. ``lm_eval run`` and ``windrow run`` make that call as well.
"""

import inspect

from lm_eval import simple_evaluate

_PARAMETER = "torch_random_seed"


def evaluation_seed() -> int | None:
    """The ``torch_random_seed`` of the innermost ``lm_eval.simple_evaluate`` that is running in this thread.

    Returns:
        The seed; ``None`` outside of such a call, or where that seed is ``None``.
    """
    evaluating = inspect.unwrap(simple_evaluate).__code__
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not evaluating:
        frame = frame.f_back
    seed: int | None = None if frame is None else frame.f_locals.get(_PARAMETER)
    return seed
