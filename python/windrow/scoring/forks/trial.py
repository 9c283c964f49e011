"""Makes a trial of forked states: random inputs that share stems, to compare with the same inputs run whole.

    stems       s s s s        and        p p p p … p
                 └ a a a                   └ r r … r
                    └ b b b
                    └ c c
                 └ d d d d

The last input fills a row's state as far as any input of the plan, so a state that is too small is detected.
"""

from dataclasses import replace

import numpy as np

from windrow.forks.pieces import Stems, branch
from windrow.forks.plan import TRIAL_SLOTS, ForkPlan
from windrow.forks.shapes import NO_LIMIT, Shapes
from windrow.forks.waves import waves_of
from windrow.tokens import Segments

MOST_READS = 8
"""The maximum number of scored tokens per input: so few that the plan's own programs have room for them."""

_STEM, _A, _B, _C, _D = 4, 3, 3, 2, 4
"""The number of tokens in each piece."""


def fork_trial(plan: ForkPlan, vocabulary: int) -> tuple[ForkPlan, Segments]:
    """A small plan in the smallest and largest shapes of ``plan``, and its segments.

    Args:
        plan: The plan to try. The trial has the same shapes and store, if they are large enough.
        vocabulary: The model's vocabulary size.
    """
    rng = np.random.default_rng(0)
    stems, branches = _shapes(plan.of_stems), _shapes(plan.of_branches)
    long = _longest_path(plan, int(stems.lengths[-1]))
    room = plan.longest - int(branches.padded(np.array([_D], np.int32))[0])  # for what comes before a branch
    first = max(1, min(_STEM, room // 2))
    second = max(1, min(_A, room - first))
    s, a, b, c, d, prefix, rest, *targets = (
        rng.integers(0, vocabulary, count).astype(np.int32)
        for count in (first, second, _B, _C, _D, *long, *[1] * 5)
    )
    paths = [(s, a), (s, a, b), (s, a, c), (s, d), (prefix, rest)]
    depths = [first, first + second, first + second, first, long[0]]
    inputs = [np.concatenate([*path, target]) for path, target in zip(paths, targets, strict=True)]
    starts = [max(depth + 1, len(one) - MOST_READS) for depth, one in zip(depths, inputs, strict=True)]
    segments = Segments.of(inputs, starts)
    found = Stems(
        np.array([first, first + second, long[0]], np.int32), np.array([-1, 0, -1]), np.array([0, 1, 4])
    )
    made = branch(segments, found, np.array([0, 1, 1, 0, 2]))
    waves = waves_of(found, made, plan.groups, max(plan.slots, TRIAL_SLOTS), least_slots=plan.slots)
    tried = ForkPlan(segments, plan.groups, made, waves, stems, branches, NO_LIMIT)
    tried.room = max(tried.room, plan.room)
    return tried, segments


def _longest_path(plan: ForkPlan, longest_stem: int) -> tuple[int, int]:
    """The tokens in the stem and in the branch of an input that fills a state as far as any of the plan.

    The trial runs this stem in one row, so it has at most ``longest_stem`` tokens.
    """
    branches = plan.branches
    padded = plan.columns[plan.batches][np.unique(branches.of, return_index=True)[1]]
    ends = np.where(branches.stem >= 0, branches.depth + padded, 0)
    deepest = int(np.argmax(ends))
    return min(int(branches.depth[deepest]), longest_stem), int(padded[deepest])


def _shapes(shapes: Shapes) -> Shapes:
    """The smallest shape that holds the short pieces, and the one with the longest rows."""
    enough = np.flatnonzero(shapes.lengths >= _STEM)
    if not len(enough):
        return replace(shapes.only([-1]), lengths=np.array([_STEM], np.int32))
    return shapes.only(np.unique([enough[0], len(shapes.lengths) - 1]))
