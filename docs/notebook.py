"""Writes the guide's notebook: the blocks of its page about notebooks, with what they show.

    python docs/notebook.py

No Jupyter is needed: a cell shows what it prints and, as in a notebook, its last
expression.
"""

import ast
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE, NOTEBOOK = DOCS / "notebooks.md", DOCS / "notebook.ipynb"

Cell = dict[str, Any]


def cells(page: str) -> Iterator[tuple[str, str]]:
    """The page in parts, ``markdown`` or ``code``, without the blocks of text that show output."""
    for part in re.split(r"(^```.*?^```$)", page, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```python\n"):
            yield "code", part.removeprefix("```python\n").removesuffix("\n```")
        elif part.strip() and not part.startswith("```"):
            yield "markdown", part.strip()


def shown(value: Any) -> dict[str, Any]:
    """How a notebook shows a value: as text and, where it has a form for that, as HTML."""
    data = {"text/plain": lines(repr(value))}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = lines(value._repr_html_())
    return data


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def executed(code: str, names: dict[str, Any], number: int) -> Cell:
    """A code cell and its outputs."""
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    outputs: list[Cell] = []
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names) if last else None
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
    if value is not None:
        outputs.append(
            {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": shown(value)}
        )
    cell = {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "source": lines(code)}
    return {**cell, "execution_count": number, "outputs": outputs}


def notebook(page: str) -> Cell:
    """The whole notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    made: list[Cell] = []
    for number, (kind, text) in enumerate(cells(page), 1):
        if kind == "code":
            made.append(executed(text, names, number))
        else:
            cell = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": lines(text)}
            made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def main() -> None:
    """Runs the page's blocks and writes the notebook."""
    made = json.dumps(notebook(PAGE.read_text()), indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(made + "\n")


if __name__ == "__main__":
    main()
