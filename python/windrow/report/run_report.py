"""The report of a model's runs, a dictionary that prints as a short summary."""

from html import escape
from typing import Any

from windrow.report.run import PHASES, figures, make_report


class RunReport(dict[str, Any]):
    """The result of :meth:`windrow.JaxLM.report`, a dictionary that prints only its main figures.

    Notebooks show them as a table. ``dict(report)`` prints everything.
    """

    def __str__(self) -> str:
        """The main figures, one per line."""
        return "\n".join(self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = "style='text-align: left'"
        rows = (
            f"<tr><th {cell}>{escape(line[:12].strip())}</th><td {cell}>{escape(line[12:])}</td></tr>"
            for line in self._lines()
        )
        return f"<table>{''.join(rows)}</table>"

    def _lines(self) -> list[str]:
        return figures(make_report(self, "", 0.0, []), PHASES[:-1])
