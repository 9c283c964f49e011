"""Plots a run: where the time went, and what the devices computed."""

from collections.abc import Sequence
from typing import Any

from windrow.report.run import PHASES
from windrow.report.svg import Picture

WIDTH = 960
LEFT, RIGHT = 24, 936

_KINDS = {
    "tokenize": "shared",
    "plan": "padding",
    "compile": "compiling",
    "host": "host",
    "device": "real",
    "other": "else",
}

Part = tuple[str, str, float, str]
"""A kind, a name, a size, and the size as text."""


def draw_run(report: dict[str, Any]) -> Picture:
    """A bar for time, a bar for tokens, and the compiled shapes."""
    seconds, tokens, devices = report["seconds"], report["tokens"], report["devices"]
    scored = report["rows"] > 0
    lines = -(-len(report["shapes"]) // 5)
    height = 176 + (186 + 26 * lines if scored else 0) + (30 if "generation" in report else 0)
    picture = Picture(WIDTH, height, f"A run of {report['model']}")
    picture.text(LEFT, 34, f"A run of {report['model']}", "title")
    picture.text(
        LEFT,
        56,
        f"{report['requests']:,} requests on {devices['count']} × {devices['kind']}, "
        f"{report['date'].replace('T', ' ')}: {report['shared']:,} deduplicated, "
        f"{report['truncated']:,} truncated, {report['skipped']:,} skipped",
        "quiet",
    )
    parts = [(_KINDS[name], name, seconds[name], f"{seconds[name]:.2f} s") for name in PHASES]
    _draw_bar(picture, 92, f"Where the time went: {seconds['total']:.1f} s", parts)
    if scored:
        unshared = max(0, tokens["real"] - tokens["rows"])
        parts = [
            ("real", "tokens", tokens["rows"], f"{tokens['rows']:,}"),
            ("padding", "padding", tokens["padding"], f"{tokens['padding']:,}"),
            ("shared", "deduplicated", unshared, f"{unshared:,}"),
        ]
        _draw_bar(picture, 202, f"Tokens on the device: {tokens['device']:,}", parts)
        _draw_shapes(picture, 312, report)
    if "generation" in report:
        texts, speed = report["generation"], report["tokens_per_second"]["generated"]
        made = f"{texts['requests']:,} texts with {texts['generated_tokens']:,} tokens, {speed:,.0f} tokens/s"
        use = f"{texts['slot_use']:.0%} of {texts['slots']} slots in use"
        picture.text(LEFT, height - 22, f"{made}; {use}", "quiet")
    return picture


def _draw_bar(picture: Picture, top: float, heading: str, parts: Sequence[Part]) -> None:
    """Parts side by side, with widths proportional to their sizes, and a legend."""
    picture.text(LEFT, top, heading, "heading")
    whole = sum(size for _, _, size, _ in parts) or 1
    x = float(LEFT)
    for kind, name, size, words in parts:
        width = size / whole * (RIGHT - LEFT)
        picture.rect(x, top + 14, width, 24, kind, f"{name}: {words}")
        x += width
    picture.legend(LEFT, top + 62, [(kind, f"{name} {words}") for kind, name, _, words in parts])


def _draw_shapes(picture: Picture, top: float, report: dict[str, Any]) -> None:
    shapes = report["shapes"]
    picture.text(
        LEFT, top, f"Shapes, rows × length: {len(shapes)}, in {report['batches']:,} batches", "heading"
    )
    for number, (rows, length) in enumerate(shapes):
        column, line = number % 5, number // 5
        picture.text(LEFT + column * 180, top + 26 + 26 * line, f"{rows:,} × {length:,}")
    speed = report["tokens_per_second"]
    picture.text(
        LEFT,
        top + 34 + 26 * -(-len(shapes) // 5),
        f"{speed['scored']:,.0f} real tokens per second end to end, "
        f"{speed['device']:,.0f} device tokens per second while the device runs",
        "quiet",
    )
