"""Draws the guide's pictures, from plans of the demo's own questions.

    python docs/draw.py

A word is a token here, so that nothing but the package is needed. The pictures
follow the reader's light or dark setting by themselves, and bring their own
background, so that they can be read on a page that does not.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from windrow.demo.text import questions
from windrow.planning import Plan, group_identical, prefix_order

FOLDER = Path(__file__).parent / "pictures"

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #37474f }
.title { font-weight: 600 }
.back { fill: #ffffff }
.real { fill: #00796b }
.bar { fill: #90a4ae }
.padding { fill: #ffb74d }
.line { fill: none; stroke: #00796b; stroke-width: 2 }
.other { fill: none; stroke: #d84315; stroke-width: 2; stroke-dasharray: 5 4 }
.axis { fill: none; stroke: #b0bec5 }
.end { text-anchor: end }
.middle { text-anchor: middle }
@media (prefers-color-scheme: dark) {
text { fill: #cfd8dc }
.back { fill: #1e2029 }
.real { fill: #4db6ac }
.bar { fill: #607d8b }
.padding { fill: #8d6e37 }
.line { stroke: #4db6ac }
.other { stroke: #ff8a65 }
.axis { stroke: #455a64 }
}
"""


class Drawing:
    """An SVG picture, built up element by element."""

    def __init__(self, width: int, height: int, describes: str) -> None:
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        self._head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        self._parts = [f"<title>{describes}</title>\n<style>{STYLE}</style>"]
        self.rect("back", 0, 0, width, height)

    def rect(self, kind: str, x: float, y: float, width: float, height: float) -> None:
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        )

    def text(self, text: str, x: float, y: float, kind: str = "") -> None:
        self._parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{text}</text>')

    def line(self, kind: str, points: list[tuple[float, float]]) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def save(self, folder: Path, name: str) -> None:
        (folder / name).write_text(self._head + "\n".join(self._parts) + "\n</svg>\n")


def inputs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of what the model sees of four requests a question, and which are equal.

    An answer is one word, which the model is asked for and does not see.
    """
    words: dict[str, int] = {}
    contexts = [re.findall(r"\w+|[^\w\s]", each["query"]) for each in questions(count, seed=101)]
    numbers = [[words.setdefault(word, len(words)) for word in context] for context in contexts]
    lengths = np.repeat([len(each) for each in numbers], 4).astype(np.int32)
    tokens = np.array([word for each in numbers for _ in range(4) for word in each], np.int32)
    return lengths, group_identical(tokens, np.concatenate([[0], np.cumsum(lengths)]))


def in_arrival_order(lengths: np.ndarray, rows: int) -> list[tuple[list[int], int]]:
    """Batches as they come, each padded to its longest: what each row holds, and the padded length."""
    parts = [lengths[at : at + rows] for at in range(0, len(lengths), rows)]
    return [([*part.tolist(), *[0] * (rows - len(part))], int(part.max())) for part in parts]


def in_plan(plan: Plan) -> list[tuple[list[int], int]]:
    """The same of a plan's batches."""
    return [
        (plan.row_lengths(batch).tolist(), int(length))
        for batch, (_, length) in enumerate(plan.batch_shapes.tolist())
    ]


def draw_rows(folder: Path) -> None:
    """The same 64 requests by five policies, each row of each batch a bar."""
    lengths, same = inputs(16)
    panels = [
        ("in arrival order", in_arrival_order(lengths, 8)),
        ("multiples of 64", in_plan(Plan(lengths, batch_size=8, max_shapes=None, padding_multiple=64))),
        ("the best 4 lengths", in_plan(Plan(lengths, batch_size=8, max_shapes=4, shape_price=0))),
        ("equal inputs shared", in_plan(Plan(lengths, same, batch_size=8, max_shapes=4, shape_price=0))),
        ("and packed", in_plan(Plan(lengths, same, batch_size=8, max_shapes=4, shape_price=0, pack=True))),
    ]
    drawing = Drawing(860, 440, "Rows of the same requests, batched by five policies")
    for at, (name, batches) in enumerate(panels):
        draw_panel(drawing, 10 + at * 172, name, batches)
    drawing.rect("real", 10, 420, 12, 12)
    drawing.text("a segment's tokens", 28, 431)
    drawing.rect("padding", 180, 420, 12, 12)
    drawing.text("padding and filler", 198, 431)
    drawing.save(folder, "rows.svg")


def draw_panel(drawing: Drawing, left: int, name: str, batches: list[tuple[list[int], int]]) -> None:
    cost = sum(len(rows) * length for rows, length in batches)
    shapes = len({length for _, length in batches})
    drawing.text(name, left, 16, "title")
    drawing.text(f"{cost:,} tokens", left, 34)
    drawing.text(f"{shapes} shape{'s' * (shapes > 1)}", left, 52)
    top = 64.0
    for rows, length in batches:
        for real in rows:
            drawing.rect("padding", left, top, length, 4)
            if real:
                drawing.rect("real", left, top, real, 4)
            top += 4.8
        top += 5


def draw_lengths(folder: Path) -> None:
    """How long requests are, and to which lengths they are padded."""
    lengths, _ = inputs(500)
    chosen = Plan(lengths, batch_size=32, max_shapes=6, shape_price=0).shapes[:, 1].tolist()
    drawing = Drawing(860, 300, "Histogram of lengths with the padded lengths of two policies")
    counts = np.bincount(lengths, minlength=200)
    across, up = 4.2, 190 / counts.max()
    for length, count in enumerate(counts.tolist()):
        drawing.rect("bar", 20 + (length - 0.85) * across, 240 - count * up, across * 0.7, count * up)
    for length in range(64, 193, 64):
        drawing.line("other", [(20 + length * across, 28), (20 + length * across, 240)])
    for length in chosen:
        drawing.line("line", [(20 + length * across, 40), (20 + length * across, 240)])
        drawing.text(str(length), 20 + length * across, 258, "middle")
    drawing.line("axis", [(20, 240), (850, 240)])
    drawing.text("number of requests by length", 20, 16)
    drawing.line("line", [(400, 12), (430, 12)])
    drawing.text("the best six padded lengths", 438, 16)
    drawing.line("other", [(670, 12), (700, 12)])
    drawing.text("multiples of 64", 708, 16)
    drawing.text("length in tokens", 850, 284, "end")
    drawing.save(folder, "lengths.svg")


def draw_shapes(folder: Path) -> None:
    """What more shapes save."""
    lengths, same = inputs(500)
    real = int(lengths.sum())

    def ratios(identities: np.ndarray | None) -> list[float]:
        plans = (
            Plan(lengths, identities, batch_size=32, max_shapes=most, shape_price=0) for most in range(1, 17)
        )
        return [plan.statistics["device_tokens"] / real for plan in plans]

    drawing = Drawing(860, 320, "Device tokens per real token, by number of shapes")
    curves = [
        ("other", "a row per request", ratios(None)),
        ("line", "equal inputs share a row", ratios(same)),
    ]
    top = max(curves[0][2])
    for step in np.arange(0, top, 0.5).tolist():
        y = 270 - step * 230 / top
        drawing.line("axis", [(60, y), (640, y)])
        drawing.text(f"{step:.1f}", 50, y + 4, "end")
    for kind, name, values in curves:
        points = [(60 + 36 * at, 270 - value * 230 / top) for at, value in enumerate(values, 1)]
        drawing.line(kind, points)
        drawing.text(name, 650, points[-1][1] + 4)
    for shapes in (1, 2, 4, 8, 16):
        drawing.text(str(shapes), 60 + 36 * shapes, 288, "middle")
    drawing.text("device tokens per real token", 20, 20)
    drawing.text("compiled shapes", 640, 310, "end")
    drawing.save(folder, "shapes.svg")


def few_shot() -> tuple[list[list[str]], Plan]:
    """The words of twelve requests, three questions with four answers each, and a plan for one row."""
    example, *asked = questions(4, seed=33)
    shot = f"{example['query']} {example['choices'][example['gold']]}."
    texts = [f"{shot} {each['query']} {choice} ." for each in asked for choice in each["choices"]]
    words = [re.findall(r"\w+|[^\w\s]", text) for text in texts]
    numbers = {word: number for number, word in enumerate(sorted({word for each in words for word in each}))}
    tokens = np.array([numbers[word] for each in words for word in each], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in words])])
    plan = Plan(
        np.diff(offsets).astype(np.int32),
        prefixes=prefix_order(tokens, offsets),
        padded_lengths=[512],
        batch_size=1,
    )
    return words, plan


def draw_tree(folder: Path) -> None:
    """One row that holds a task's examples once, its questions under them, and their answers."""
    words, plan = few_shot()
    drawing = Drawing(860, 170, "A row that holds twelve requests as a prefix tree")
    reach = plan.reach(0)[0]
    used = int(plan.row_lengths(0)[0])
    across, levels = 745 / used, ("the example", "questions", "answers")
    begins = [0, *(at for at in range(1, used) if reach[at] != reach[at - 1]), used]
    for begin, end in pairwise(begins):
        above = [at for at in begins[:-1] if at < begin and reach[at] >= reach[begin]]
        top = 34 + 34 * len(above)
        drawing.rect("real", 10 + begin * across, top, max(1.0, (end - begin) * across - 1.5), 20)
        whole = (reach[begin] - begin) * across - 1.5
        drawing.rect("bar", 10 + begin * across, top + 22, max(1.0, whole), 3)
    drawing.text("one row, left to right; under each box, the part of the row that sees it", 10, 18)
    alone = sum(len(each) for each in words)
    drawing.text(f"12 requests in {used} tokens instead of {alone:,}", 10, 158)
    for level, name in enumerate(levels):
        drawing.text(name, 850, 48 + 34 * level, "end")
    drawing.save(folder, "tree.svg")


def main(folder: Path = FOLDER) -> None:
    """Draws all pictures into a folder."""
    folder.mkdir(exist_ok=True)
    for draw in (draw_rows, draw_lengths, draw_shapes, draw_tree):
        draw(folder)


if __name__ == "__main__":
    main()
