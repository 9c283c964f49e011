"""Writes pictures to files: SVG, or PNG if Pillow is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windrow.report.svg import FILLS, LIGHT, SIZES, STROKES, TEXTS, Area, Line, Picture, Rect, Shape, Text

if TYPE_CHECKING:
    from PIL import ImageDraw

FORMATS = (".svg", ".png")

SCALE = 2
"""PNG pixels per pixel of the picture, for high-density screens."""

_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def require_format(option: str, path: Path) -> None:
    """Rejects a file that :func:`save` cannot write.

    Args:
        option: The option's name, for the error.
        path: The file.

    Raises:
        ValueError: The file has another extension.
        ImportError: The file is a PNG, and Pillow is not installed.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{option} writes SVG or PNG; the name must end in .svg or .png, not {str(path)!r}")
    if path.suffix == ".png" and find_spec("PIL") is None:
        raise ImportError(f"{option} needs Pillow for {str(path)!r}: pip install pillow, or write a .svg")


def save(picture: Picture, path: Path) -> None:
    """Writes a picture in the format of the file's extension."""
    if path.suffix == ".png":
        rasterized(picture).save(path)
    else:
        path.write_text(str(picture), encoding="utf-8")


def rasterized(picture: Picture) -> Any:
    """The picture in its light colors, as a ``PIL.Image.Image``."""
    from PIL import Image, ImageDraw

    size = (round(picture.width * SCALE), round(picture.height * SCALE))
    image = Image.new("RGB", size, LIGHT["paper"])
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        _draw(draw, shape)
    return image


def _draw(draw: "ImageDraw.ImageDraw", shape: Shape) -> None:
    match shape:
        case Rect(x, y, width, height, kind):
            # Pillow fills the last pixel too, so a rectangle of zero width would be visible.
            right, foot = (x + width) * SCALE - 1, (y + height) * SCALE - 1
            if right >= x * SCALE and foot >= y * SCALE:
                draw.rectangle((x * SCALE, y * SCALE, right, foot), fill=LIGHT[FILLS[kind]])
        case Area(points, kind):
            draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=LIGHT[FILLS[kind]])
        case Line(start, stop, kind):
            for (x1, y1), (x2, y2) in _dashes(start, stop) if kind == "chosen" else [(start, stop)]:
                ends = [(x1 * SCALE, y1 * SCALE), (x2 * SCALE, y2 * SCALE)]
                draw.line(ends, fill=LIGHT[STROKES[kind]], width=SCALE)
        case Text((x, y), words, kind, anchor):
            font, known = _font(SIZES.get(kind, SIZES[""]) * SCALE)
            draw.text(
                (x * SCALE, y * SCALE),
                words if known else words.replace("×", "x"),
                fill=LIGHT[TEXTS.get(kind, "ink")],
                font=font,
                anchor=_ANCHORS[anchor],
                stroke_width=SCALE / 4 if kind in ("title", "heading") else 0,
            )


def _dashes(start: tuple[float, float], stop: tuple[float, float]) -> list[tuple[Any, Any]]:
    """A line as dashes of 3 pixels with gaps of 3."""
    (x1, y1), (x2, y2) = start, stop
    length = max(1e-9, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)

    def at(distance: float) -> tuple[float, float]:
        part = min(1.0, distance / length)
        return x1 + part * (x2 - x1), y1 + part * (y2 - y1)

    return [(at(begin), at(begin + 3)) for begin in range(0, int(length) + 1, 6)]


def _font(size: float) -> tuple[Any, bool]:
    """A system font and True, or Pillow's own font, which has few non-ASCII characters, and False."""
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size), True
        except OSError:
            continue
    return ImageFont.load_default(size), False
