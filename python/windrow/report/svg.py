"""Draws pictures from a few kinds of shapes, and writes them as SVG.

A picture is a list of shapes, each of some kind. A style sheet defines what each kind looks like, and follows
the reader's ``prefers-color-scheme``. It does not use CSS variables, which only browsers support. No drawing
package is needed, and a picture is a few kilobytes of text.

>>> picture = Picture(100, 20, "A bar")
>>> picture.rect(0, 0, 50, 10, "real", note="50 tokens")
>>> "<rect" in str(picture) and "prefers-color-scheme" in str(picture)
True
"""

from collections.abc import Sequence
from html import escape
from math import floor, log10
from typing import NamedTuple

Point = tuple[float, float]

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1d2730",
    "quiet": "#5d6974",
    "grid": "#e1e5e9",
    "real": "#2b6cb0",
    "shared": "#9cc3e8",
    "padding": "#dd8434",
    "chosen": "#b4530a",
}

DARK = {
    "paper": "#12171c",
    "ink": "#e6eaee",
    "quiet": "#9ba7b2",
    "grid": "#2b343d",
    "real": "#5a9bdc",
    "shared": "#345a80",
    "padding": "#cf7f38",
    "chosen": "#f0a560",
}

FILLS = {
    **{name: name for name in ("paper", "real", "shared", "padding")},
    **{"else": "grid", "compiling": "chosen", "host": "quiet"},
}
"""The color of each kind of area."""

STROKES = {"grid": "grid", "axis": "quiet", "chosen": "chosen"}
"""The color of each kind of line."""

SIZES = {"": 13, "title": 18, "heading": 14, "quiet": 12, "label": 11}
"""The font size of each kind of text, in pixels."""

TEXTS = {"quiet": "quiet", "label": "chosen"}
"""The color of each kind of text; ink for kinds not listed."""

_FONT = 'system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif'


class Rect(NamedTuple):
    """A filled rectangle; ``note`` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    note: str


class Area(NamedTuple):
    """A filled outline."""

    points: tuple[Point, ...]
    kind: str


class Line(NamedTuple):
    """A straight line."""

    start: Point
    stop: Point
    kind: str


class Text(NamedTuple):
    """Text whose baseline starts at, is centered on or ends at a point."""

    at: Point
    words: str
    kind: str
    anchor: str


Shape = Rect | Area | Line | Text


class Picture:
    """A list of shapes, later ones on top, in pixels from the upper left corner.

    Args:
        width: The width in pixels; the picture scales with its page.
        height: The height in pixels.
        title: A description for screen readers.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.shapes: list[Shape] = []

    def rect(self, x: float, y: float, width: float, height: float, kind: str, note: str = "") -> None:
        """A filled rectangle; ``note`` is its tooltip."""
        self.shapes.append(Rect(x, y, max(0.0, width), max(0.0, height), kind, note))

    def area(self, points: Sequence[Point], kind: str) -> None:
        """A filled outline."""
        self.shapes.append(Area(tuple(points), kind))

    def line(self, start: Point, stop: Point, kind: str) -> None:
        """A straight line."""
        self.shapes.append(Line(start, stop, kind))

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Text whose baseline starts at, is centered on or ends at (``anchor``) a point."""
        self.shapes.append(Text((x, y), words, kind, anchor))

    def legend(self, x: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
        """A legend: kinds with their descriptions, side by side."""
        for kind, words in entries:
            self.rect(x, y - 10, 11, 11, kind)
            self.text(x + 16, y, words, "quiet")
            x += 16 + 6.7 * len(words) + 20

    def __str__(self) -> str:
        """The picture as an SVG file."""
        size = f'width="{self.width:g}" height="{self.height:g}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
                f'role="img" {size}>',
                f"<title>{escape(self.title)}</title>",
                f"<style>{_rules(LIGHT)}",
                f"text {{ font-family: {_FONT} }} .title, .heading {{ font-weight: 600 }}",
                ".chosen { stroke-dasharray: 3 3 }",
                f"@media (prefers-color-scheme: dark) {{ {_rules(DARK)} }}</style>",
                f'<rect class="paper" {size}/>',
                *map(_element, self.shapes),
                "</svg>\n",
            ]
        )


def _rules(colors: dict[str, str]) -> str:
    rules = [f"text {{ fill: {colors['ink']}; font-size: {SIZES['']}px }}"]
    rules += [f".{kind} {{ fill: {colors[name]} }}" for kind, name in FILLS.items()]
    rules += [f".{kind} {{ stroke: {colors[name]} }}" for kind, name in STROKES.items()]
    rules += [f"text.{kind} {{ font-size: {size}px }}" for kind, size in SIZES.items() if kind]
    rules += [f"text.{kind} {{ fill: {colors[name]} }}" for kind, name in TEXTS.items()]
    return " ".join(rules)


def _element(shape: Shape) -> str:
    match shape:
        case Rect(x, y, width, height, kind, note):
            inside = f"<title>{escape(note)}</title>" if note else ""
            size = f'width="{width:.1f}" height="{height:.1f}"'
            return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}>{inside}</rect>'
        case Area(points, kind):
            listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            return f'<polygon class="{kind}" points="{listed}"/>'
        case Line((x1, y1), (x2, y2), kind):
            return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        case Text((x, y), words, kind, anchor):
            place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
            return f'<text class="{kind}" {place}>{escape(words)}</text>'


def ticks(most: float, about: int = 5) -> list[float]:
    """Roughly ``about`` round numbers from 0 to ``most``.

    >>> ticks(37_000), ticks(9, about=3)
    ([0, 10000, 20000, 30000], [0, 5])
    """
    if most <= 0:
        return [0]
    exponent = floor(log10(most / about))
    step = next(size * 10**exponent for size in (1, 2, 5, 10) if size * 10**exponent * about >= most)
    return [step * number for number in range(int(most / step) + 1)]
