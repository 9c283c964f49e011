"""Report files, which are next to lm_eval's results and have the same date in their names."""

import json
import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

NAME = "windrow_report_"
_RESULTS = "results_"
_NEEDED = (
    *("devices", "model", "requests", "rows", "batches", "shared", "truncated", "skipped"),
    *("tokens", "shapes", "tokens_per_second"),
)


def results_in(output_path: str | os.PathLike[str] | None) -> frozenset[Path]:
    """The results files that lm_eval has written to ``--output_path``, a directory or a JSON file."""
    if output_path is None:
        return frozenset()
    path = Path(output_path)
    if path.suffix == ".json":
        return frozenset(path.parent.glob(f"{path.stem}_*.json"))
    return frozenset(path.glob(f"*/{_RESULTS}*.json"))


def write_report(
    report: dict[str, Any], output_path: str | os.PathLike[str], known: Collection[Path]
) -> Path:
    """Writes a report next to the newest results; returns its path.

    Args:
        report: The report.
        output_path: The ``--output_path`` passed to lm_eval.
        known: The results files that existed before the run.
    """
    new = sorted(results_in(output_path) - set(known), key=os.path.getmtime)
    if new:
        folder, date = new[-1].parent, new[-1].stem.split("_")[-1]
    else:
        folder, date = Path(output_path), datetime.now().isoformat().replace(":", "-")
        folder = folder.parent if folder.suffix == ".json" else folder
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}{date}.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def find_reports(place: str | os.PathLike[str]) -> list[Path]:
    """All reports in a directory tree, oldest first; or the given report file.

    Raises:
        FileNotFoundError: There is no report.
    """
    path = Path(place)
    found = [path] if path.is_file() else sorted(path.rglob(f"{NAME}*.json"), key=lambda each: each.name)
    if not found:
        raise FileNotFoundError(
            f"no {NAME}*.json found in {str(place)!r}; windrow run writes one to its --output_path at the "
            "end, and windrow score a manifest.json to its --output as it begins"
        )
    return found


def read_report(path: Path) -> dict[str, Any]:
    """The report in a file.

    Raises:
        ValueError: The file is not a report written by windrow.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(report, dict) or "windrow" not in report or "seconds" not in report:
        raise ValueError(f"{path} is not a report from windrow run; reports are named {NAME}*.json")
    missing = [name for name in _NEEDED if name not in report]
    if missing:
        raise ValueError(f"{path} is incomplete: it lacks {', '.join(missing)}; choose another report")
    return report
