"""Plots a plan: segment lengths, padding, and the cost of alternatives."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from windrow.report.planned import PlannedRequests
from windrow.report.planned_text import RIVALS, counted, difference
from windrow.report.svg import Picture, Point, ticks
from windrow.report.tree_picture import TREE_PANEL, draw_trees

WIDTH = 960
LEFT, RIGHT = 76, 936
PANEL = 220
"""The height of a panel with axes."""

SPACE = 124
"""The distance between the bottom of one panel and the top of the next, for text."""

_BINS = 128
_COLUMNS = 800
_LABEL_ROOM = 30
_NAME_ROOM = 56


def draw_plan(report: dict[str, Any], planned: Sequence[PlannedRequests]) -> Picture:
    """Draws two panels per request type, a third if trees were planned, and a comparison.

    Args:
        report: The result of :func:`windrow.cli.plan.make_plan_report`.
        planned: The plans it was made from.
    """
    height = 78 + len(planned) * 2 * (PANEL + SPACE) + (60 + 46 * len(report["compared"]) if planned else 0)
    height += TREE_PANEL * sum(each.trees is not None for each in planned)
    title = f"Batches for {', '.join(report['tasks'])}"
    picture = Picture(WIDTH, height, title)
    picture.text(24, 34, title, "title")
    picture.text(24, 56, _subtitle(report), "quiet")
    top = 92.0
    for each, figures in zip(planned, report["scored"], strict=True):
        _draw_lengths(picture, top, each, figures)
        _draw_padding(picture, top + PANEL + SPACE, each, figures)
        top += 2 * (PANEL + SPACE)
        if each.trees is not None:
            draw_trees(picture, top, (LEFT, RIGHT), each.trees, figures)
            top += TREE_PANEL
    if planned:
        _draw_costs(picture, top, report, planned)
    return picture


def _subtitle(report: dict[str, Any]) -> str:
    real = sum(figures["tokens"]["real"] for figures in report["scored"])
    requests = sum(figures["requests"] for figures in report["scored"])
    return f"{requests:,} scored requests, {real:,} tokens, tokenizer {report['tokenizer']}"


def _draw_lengths(picture: Picture, top: float, planned: PlannedRequests, figures: dict[str, Any]) -> None:
    """A histogram of lengths, with dashed lines at the padded lengths."""
    picture.text(
        24, top, f"{figures['request_type']}: lengths of the segments (dashed: padded lengths)", "heading"
    )
    shared = ("shared", f"deduplicated ({figures['shared']:,})")
    picture.legend(
        LEFT,
        top + 20,
        [("real", f"distinct ({figures['segments'] - figures['shared']:,})"), shared],
    )
    top += 62
    longest = max(1, figures["longest"])
    width = -(-longest // _BINS)
    edges = np.arange(0, longest + width, width) + 0.5
    own, shares = (
        np.histogram(planned.lengths[mask], edges)[0] for mask in (~planned.shares, planned.shares)
    )
    highest = max(1, int((own + shares).max(initial=1)))
    frame = Frame(top, (0, edges[-1]), highest)
    frame.draw(
        picture,
        "length in tokens",
        "number of segments" if width == 1 else f"number of segments per {width} tokens of length",
    )
    for begin, stop, mine, theirs in zip(edges, edges[1:], own, shares, strict=False):
        span = f"{int(begin + 0.5)} to {int(stop - 0.5)} tokens"
        note = f"{span}: {mine + theirs:,} segments, {theirs:,} of them deduplicated"
        left, right = frame.x(begin), frame.x(stop)
        picture.rect(left, frame.y(mine), right - left - 0.4, frame.y(0) - frame.y(mine), "real", note)
        picture.rect(
            left,
            frame.y(mine + theirs),
            right - left - 0.4,
            frame.y(mine) - frame.y(mine + theirs),
            "shared",
            note,
        )
    taken = [-float(_LABEL_ROOM)] * 2
    for length in sorted({shape["length"] for shape in figures["shapes"]}):
        x = frame.x(length + 0.5)
        picture.line((x, top), (x, top + PANEL), "chosen")
        level = next((level for level in (0, 1) if x - taken[level] >= _LABEL_ROOM), None)
        if level is not None:
            picture.text(x, top - 5 - 12 * level, str(length), "label", "middle")
            taken[level] = x


def _draw_padding(picture: Picture, top: float, planned: PlannedRequests, figures: dict[str, Any]) -> None:
    """All rows side by side in execution order, with the tokens and the padding of each."""
    tokens = figures["tokens"]
    picture.text(24, top, f"{figures['request_type']}: where the padding is", "heading")
    picture.legend(
        LEFT,
        top + 20,
        [("real", f"tokens ({tokens['rows']:,})"), ("padding", f"padding ({tokens['padding']:,})")],
    )
    top += 62
    used, padded = planned.row_lengths.T
    frame = Frame(top, (0, len(used)), int(padded.max(initial=1)))
    frame.draw(picture, "rows, in the order they run", "tokens per row")
    picture.area(_staircase(frame, padded, np.maximum), "padding")
    picture.area(_staircase(frame, used, np.add), "real")
    begin = 0
    for shape in figures["shapes"]:
        left, right = frame.x(begin), frame.x(begin := begin + shape["rows"] * shape["batches"])
        words, height = f"{shape['rows']}×{shape['length']}", frame.y(shape["length"])
        if right - left >= _NAME_ROOM:
            picture.text((left + right) / 2, height - 5, words, "label", "middle")
        else:
            picture.text(right + 4, height + 9, words, "label")


def _staircase(frame: "Frame", lengths: Any, reduce: np.ufunc) -> list[Point]:
    """The outline of rows side by side; a column shows the mean or maximum of several rows."""
    columns = min(_COLUMNS, len(lengths))
    edges = np.linspace(0, len(lengths), columns + 1).astype(np.int64)
    heights = reduce.reduceat(lengths, edges[:-1]).astype(np.float64)
    if reduce is np.add:
        heights /= np.diff(edges)
    points = [(frame.x(0), frame.y(0))]
    for begin, stop, height in zip(edges[:-1], edges[1:], heights, strict=True):
        points += [(frame.x(begin), frame.y(height)), (frame.x(stop), frame.y(height))]
    return [*points, (frame.x(len(lengths)), frame.y(0))]


def _draw_costs(
    picture: Picture, top: float, report: dict[str, Any], planned: Sequence[PlannedRequests]
) -> None:
    """Bars with the tokens on the device, for this plan and each alternative."""
    picture.text(24, top, "Tokens on the device, padding included", "heading")
    real = sum(figures["tokens"]["real"] for figures in report["scored"])
    needed = {
        "plan": sum(each.plan.statistics["row_tokens"] for each in planned),
        "trees": sum(each.trees.statistics["row_tokens"] for each in planned if each.trees is not None),
        "forks": sum(each.trees.statistics["tree_tokens"] for each in planned if each.trees is not None),
        "lm_eval": sum(int(each.lengths[np.unique(each.firsts)].sum()) for each in planned),
    }
    scale = (RIGHT - LEFT - 430) / max(1, *(cost["device_tokens"] for cost in report["compared"]))
    for number, cost in enumerate(report["compared"]):
        y = top + 34 + 46 * number
        here = needed.get(cost["name"], real)
        picture.text(LEFT, y - 5, f"{RIVALS[cost['name']]}: {counted(cost['shapes'], 'shape')}", "quiet")
        picture.rect(LEFT, y, here * scale, 17, "real", f"{here:,} tokens of requests")
        picture.rect(LEFT + here * scale, y, (cost["device_tokens"] - here) * scale, 17, "padding", "padding")
        words = f"{cost['device_tokens']:,}"
        if cost["name"] != "plan":
            words += f" (this plan: {difference(report['compared'][0], cost)})"
        picture.text(LEFT + cost["device_tokens"] * scale + 8, y + 13, words)


class Frame:
    """The axes of a panel.

    Args:
        top: The top of the panel.
        across: The range of the horizontal axis.
        most: The maximum of the vertical axis, which begins at 0.
    """

    def __init__(self, top: float, across: tuple[float, float], most: float) -> None:
        self.top, self.across, self.most = top, across, most

    def x(self, value: float) -> float:
        """The horizontal position of a value."""
        first, last = self.across
        return LEFT + (float(value) - first) / max(1e-9, last - first) * (RIGHT - LEFT)

    def y(self, value: float) -> float:
        """The vertical position of a value."""
        return self.top + PANEL * (1 - float(value) / self.most)

    def draw(self, picture: Picture, across: str, upwards: str) -> None:
        """Draws grid lines, tick labels and axis titles."""
        for value in ticks(self.most, 4):
            picture.line((LEFT, self.y(value)), (RIGHT, self.y(value)), "axis" if value == 0 else "grid")
            picture.text(LEFT - 8, self.y(value) + 4, f"{value:,.0f}", "quiet", "end")
        for value in ticks(self.across[1], 8):
            anchor = "end" if self.x(value) > RIGHT - 16 else "middle"
            picture.text(self.x(value), self.top + PANEL + 16, f"{value:,.0f}", "quiet", anchor)
        picture.text(RIGHT, self.top + PANEL + 34, across, "quiet", "end")
        picture.text(RIGHT, self.top - 42, upwards, "quiet", "end")
