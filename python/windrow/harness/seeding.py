"""Finds the sampling seed that was passed to lm_eval.

lm_eval seeds the global generators of Python, NumPy and, if installed, torch, which its Hugging Face backend
samples from, but passes no seed to the model. JAX has no global generator, and torch may not be installed. So
windrow reads the seed from the enclosing call of ``lm_eval.simple_evaluate``; ``lm_eval run`` and
``windrow run`` call it too.
"""

import inspect
import sys

_PARAMETER = "torch_random_seed"


def evaluation_seed() -> int | None:
    """The ``torch_random_seed`` of the innermost ``lm_eval.simple_evaluate`` call in this thread.

    Returns:
        The seed; ``None`` outside of such a call, or if that seed is ``None``.
    """
    evaluator = sys.modules.get("lm_eval.evaluator")
    if evaluator is None:  # importing it takes a second
        return None
    evaluating = inspect.unwrap(evaluator.simple_evaluate).__code__
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not evaluating:
        frame = frame.f_back
    seed: int | None = None if frame is None else frame.f_locals.get(_PARAMETER)
    return seed
