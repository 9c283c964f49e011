"""A small writer of SVG pictures that suit a light and a dark page.

A picture is a list of shapes, each of a kind; how a kind looks is in one style
sheet, which follows the reader's ``prefers-color-scheme``. No drawing package is
needed, and a picture is a few kilobytes of text.

>>> picture = Picture(100, 20, "A bar")
>>> picture.rect(0, 0, 50, 10, "real", note="50 tokens")
>>> "<rect" in str(picture) and "prefers-color-scheme" in str(picture)
True
"""

from collections.abc import Sequence
from html import escape
from math import floor, log10

Point = tuple[float, float]

_LIGHT = {
    "paper": "#ffffff",
    "ink": "#1d2730",
    "quiet": "#5d6974",
    "grid": "#e1e5e9",
    "real": "#2b6cb0",
    "shared": "#9cc3e8",
    "padding": "#dd8434",
    "chosen": "#b4530a",
}

_DARK = {
    "paper": "#12171c",
    "ink": "#e6eaee",
    "quiet": "#9ba7b2",
    "grid": "#2b343d",
    "real": "#5a9bdc",
    "shared": "#345a80",
    "padding": "#cf7f38",
    "chosen": "#f0a560",
}

_STYLE = """
text { font: 13px system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; fill: var(--ink) }
.title { font-size: 18px; font-weight: 600 } .heading { font-size: 14px; font-weight: 600 }
.quiet { fill: var(--quiet); font-size: 12px } .label { fill: var(--chosen); font-size: 11px }
.paper { fill: var(--paper) } .grid { stroke: var(--grid) } .axis { stroke: var(--quiet) }
.chosen { stroke: var(--chosen); stroke-dasharray: 3 3 }
.real { fill: var(--real) } .shared { fill: var(--shared) } .padding { fill: var(--padding) }
.else { fill: var(--grid) } .compiling { fill: var(--chosen) } .host { fill: var(--quiet) }
"""


class Picture:
    """Shapes, one above the other, in pixels from the upper left corner.

    Args:
        width: In pixels; the picture shrinks and grows with its page.
        height: The same.
        title: What it shows, for those who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._shapes: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, kind: str, note: str = "") -> None:
        """A filled rectangle; ``note`` appears where the pointer rests on it."""
        inside = f"<title>{escape(note)}</title>" if note else ""
        self._shapes.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
            f'height="{max(0.0, height):.1f}">{inside}</rect>'
        )

    def area(self, points: Sequence[Point], kind: str) -> None:
        """A filled outline."""
        self._shapes.append(f'<polygon class="{kind}" points="{_listed(points)}"/>')

    def line(self, start: Point, stop: Point, kind: str) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, stop
        self._shapes.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Words whose base line begins, has its middle or ends (``anchor``) at a point."""
        self._shapes.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def legend(self, x: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
        """Kinds and what they mean, one after the other."""
        for kind, words in entries:
            self.rect(x, y - 10, 11, 11, kind)
            self.text(x + 16, y, words, "quiet")
            x += 16 + 6.7 * len(words) + 20

    def __str__(self) -> str:
        """The whole file."""
        size = f"{self.width:g} {self.height:g}"
        dark = "".join(f"--{name}: {colour}; " for name, colour in _DARK.items())
        light = "".join(f"--{name}: {colour}; " for name, colour in _LIGHT.items())
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" '
                f'width="{self.width:g}" height="{self.height:g}">',
                f"<title>{escape(self.title)}</title>",
                f"<style>svg {{ {light}}}",
                f"@media (prefers-color-scheme: dark) {{ svg {{ {dark}}} }}{_STYLE}</style>",
                f'<rect class="paper" width="{self.width:g}" height="{self.height:g}"/>',
                *self._shapes,
                "</svg>\n",
            ]
        )


def ticks(most: float, about: int = 5) -> list[float]:
    """Round numbers from 0 up to ``most``, some ``about`` of them.

    >>> ticks(37_000), ticks(9, about=3)
    ([0, 10000, 20000, 30000], [0, 5])
    """
    if most <= 0:
        return [0]
    exponent = floor(log10(most / about))
    step = next(size * 10**exponent for size in (1, 2, 5, 10) if size * 10**exponent * about >= most)
    return [step * number for number in range(int(most / step) + 1)]


def _listed(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
