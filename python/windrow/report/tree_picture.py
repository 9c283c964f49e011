"""Plots prefix trees: the tokens they save, and an example of a row."""

from itertools import pairwise
from typing import Any, NamedTuple

from numpy.typing import NDArray

from windrow.planning import Plan
from windrow.report.svg import Picture

TREE_PANEL = 250
"""The panel's height."""

_MOST_LEVELS = 12
_LEVEL = 12


class Stretch(NamedTuple):
    """Adjacent tokens of a row with the same reach: one node of a tree.

    Attributes:
        begin: The index of its first token in the row.
        end: The index after its last token.
        level: Its depth: the number of nodes above it.
        seen: The index up to which later tokens see it.
    """

    begin: int
    end: int
    level: int
    seen: int


def stretches(reach: NDArray[Any]) -> list[Stretch]:
    """The nodes of the trees in a row, from the ``reach`` of its tokens.

    >>> import numpy as np
    >>> [(node.begin, node.end, node.level) for node in stretches(np.array([7, 7, 6, 4, 6, 6, 7]))]
    [(0, 2, 0), (2, 3, 1), (3, 4, 2), (4, 6, 2), (6, 7, 1)]
    """
    begins = [at for at in range(len(reach)) if at == 0 or reach[at] != reach[at - 1]]
    found, above = [], list[int]()
    for begin, end in pairwise([*begins, len(reach)]):
        while above and above[-1] <= begin:
            above.pop()
        found.append(Stretch(begin, end, len(above), int(reach[begin])))
        above.append(int(reach[begin]))
    return found


def draw_trees(
    picture: Picture, top: float, across: tuple[float, float], plan: Plan, figures: dict[str, Any]
) -> None:
    """Draws a bar of computed and saved tokens, and the row of the first batch that has the most nodes.

    Args:
        picture: The picture to draw into.
        top: The panel's top edge.
        across: Its left and right edges.
        plan: A plan of tree rows.
        figures: The request type's figures, from :meth:`PlannedRequests.figures`.
    """
    left, right = across
    name, saved = figures["request_type"], figures["trees"]["saved"]
    picture.text(24, top, f"{name}: what prefix trees save, for models that take reach", "heading")
    parts = [
        ("real", "needed once", figures["trees"]["tokens"]["tree"]),
        ("shared", "in shared prefixes", saved["shared_prefixes"]),
        ("else", "in equal inputs", saved["equal_inputs"]),
    ]
    picture.legend(left, top + 20, [(kind, f"{words} ({count:,})") for kind, words, count in parts])
    scale = (right - left) / max(1, sum(count for *_, count in parts))
    x = left
    for kind, words, count in parts:
        picture.rect(x, top + 32, count * scale, 17, kind, f"{count:,} tokens {words}")
        x += count * scale
    if len(plan):
        _draw_row(picture, top + 74, across, plan)


def _draw_row(picture: Picture, top: float, across: tuple[float, float], plan: Plan) -> None:
    """Draws a row from left to right, with each node below the one it continues."""
    left, right = across
    used = plan.row_lengths(0)
    rows = [stretches(reach[:length]) for reach, length in zip(plan.reach(0), used, strict=True)]
    nodes = max(rows, key=len)
    if not nodes:
        return
    row = rows.index(nodes)
    segments = len(plan.batch_segments(0, row, row + 1))
    words = (
        f"one tree row: {segments:,} segments in {int(used[row]):,} tokens; each box continues the one above"
    )
    picture.text(left, top, words, "quiet")
    scale = (right - left) / int(used[row])
    for node in nodes:
        level = min(node.level, _MOST_LEVELS - 1)
        x, width = left + node.begin * scale, (node.end - node.begin) * scale
        kind = "shared" if node.seen > node.end else "real"
        note = f"tokens {node.begin} to {node.end - 1}, seen by those before {node.seen}"
        picture.rect(x, top + 10 + _LEVEL * level, width - min(0.4, width / 4), _LEVEL - 2, kind, note)
