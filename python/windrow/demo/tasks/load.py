"""Generates the tasks' documents when lm_eval asks for them.

Their seeds differ from those of the training text.
"""

import datasets

from windrow.demo import text

Splits = dict[str, datasets.Dataset]


def questions(count: int, seed: int, **_: object) -> Splits:
    """Documents with ``query``, ``choices`` and ``gold``."""
    return {"test": datasets.Dataset.from_list(text.questions(count, seed))}


def last_words(count: int, seed: int, **_: object) -> Splits:
    """Documents with ``context`` and ``word``."""
    return {"test": datasets.Dataset.from_list(text.last_words(count, seed))}


def chronicles(count: int, seed: int, **_: object) -> Splits:
    """Documents with ``page``."""
    return {"test": datasets.Dataset.from_list([{"page": page} for page in text.chronicles(count, seed)])}
