"""Writes a run's files, first to a temporary directory, then atomically to their destination.

lm_eval writes its files at the very end of a run, and only warns if that fails. So windrow checks the
destination before the run. If it is gone or full at the end, the files stay in the temporary directory, and
the error says where that is.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from windrow.report.files import results_in, write_report

TRIAL_BYTES = 1 << 20
"""The number of bytes that must fit in the destination before a run begins."""


class Output:
    """The files of a run.

    Args:
        output_path: The value of ``--output_path``: a directory, or a JSON file whose
            name is the prefix of the results' names.

    Attributes:
        words: The option that makes lm_eval write to the temporary directory.

    Raises:
        OSError: The destination or the system's temporary directory is not writable.
    """

    def __init__(self, output_path: str) -> None:
        self._given, path = output_path, Path(output_path)
        self._place = path.parent if path.suffix == ".json" else path
        _try_writing(self._place, f"--output_path {output_path!r}", "choose another directory")
        _try_writing(Path(tempfile.gettempdir()), "the temporary directory", "set TMPDIR to another one")
        self._stage = Path(tempfile.mkdtemp(prefix="windrow-results-"))
        self._staged = self._stage / path.name if path.suffix == ".json" else self._stage
        self.words = ["--output_path", str(self._staged)]

    def __enter__(self) -> None:
        """Begins the run."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Removes the temporary directory if the run failed before writing anything."""
        if kind is not None:
            self.discard_if_empty()

    def discard_if_empty(self) -> None:
        """Removes the temporary directory if it contains no file."""
        if not any(path.is_file() for path in self._stage.rglob("*")):
            shutil.rmtree(self._stage, ignore_errors=True)

    def deliver(self, report: dict[str, Any] | None) -> list[Path]:
        """Moves every file to its destination; returns the paths of results and report.

        Args:
            report: The report to write next to the results.

        Raises:
            OSError: A file could not be written, or lm_eval's files are incomplete.
        """
        saved, delivered = results_in(self._staged), []
        try:
            if report is not None:
                write_report(report, self._staged, frozenset())
            files = sorted(path for path in self._stage.rglob("*") if path.is_file())
            torn = [file.name for file in files if not _is_whole(file)]
            for file in files:
                delivered.append(self._place / file.relative_to(self._stage))
                _write_whole(file, delivered[-1])
        except OSError as error:
            raise OSError(
                f"--output_path {self._given!r} is no longer writable: {error}; "
                f"the results are in {self._stage}"
            ) from error
        shutil.rmtree(self._stage, ignore_errors=True)
        if torn or not saved:
            raise OSError(
                f"lm_eval could not save {', '.join(torn) or 'its results'} completely; "
                "see its warning and the table of results above"
            )
        return [path for path in delivered if path.suffix == ".json"]


def _try_writing(place: Path, name: str, advice: str) -> None:
    """Writes a temporary file to the directory, or to the parent in which it would be created."""
    there = place.absolute()
    while not os.path.lexists(there):
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = f"{there} is a file, not a directory" if there.is_file() else f"{error.strerror} in {there}"
        raise OSError(f"{name} is not writable: {reason}; {advice}") from error


def _is_whole(path: Path) -> bool:
    """Whether a JSON or JSON Lines file is complete."""
    with path.open("rb") as file:
        if path.suffix == ".jsonl":
            file.seek(-min(1, path.stat().st_size), os.SEEK_END)
            return file.read() in (b"", b"\n")
        try:
            return bool(json.load(file))
        except ValueError:
            return False


def _write_whole(source: Path, target: Path) -> None:
    """Copies a file atomically: under its final name it is complete or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
