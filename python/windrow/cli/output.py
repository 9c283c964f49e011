"""Where a run's files go: to a temporary directory first, then, each as a whole, to their place.

lm_eval writes its files at the very end of a run, and only warns where it cannot. So
the place is tried before the run. Should it be gone or full by the end, the files
remain in the temporary directory, and the error says where that is.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from windrow.report.files import results_in, write_report

TRIAL_BYTES = 1 << 20
"""How much must fit before a run begins."""


class Output:
    """The files of a run.

    Args:
        output_path: What ``--output_path`` says: a directory, or a JSON file whose
            name the results' names begin with.

    Attributes:
        words: The option that makes lm_eval write to the temporary directory.

    Raises:
        OSError: Nothing can be written there, or in the system's temporary directory.
    """

    def __init__(self, output_path: str) -> None:
        self._given, path = output_path, Path(output_path)
        self._place = path.parent if path.suffix == ".json" else path
        _try_writing(self._place, f"--output_path {output_path!r}", "give another directory")
        _try_writing(Path(tempfile.gettempdir()), "the temporary directory", "name another one in TMPDIR")
        self._stage = Path(tempfile.mkdtemp(prefix="windrow-results-"))
        self._staged = self._stage / path.name if path.suffix == ".json" else self._stage
        self.words = ["--output_path", str(self._staged)]

    def __enter__(self) -> None:
        """Begins the run."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Removes the temporary directory where the run failed before anything was written."""
        if kind is not None and not any(path.is_file() for path in self._stage.rglob("*")):
            shutil.rmtree(self._stage, ignore_errors=True)

    def deliver(self, report: dict[str, Any] | None) -> list[Path]:
        """Puts every file in its place; returns the paths of results and report.

        Args:
            report: What is written beside the results.

        Raises:
            OSError: A file could not be written there, or lm_eval had not saved all.
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
                f"--output_path {self._given!r} cannot be written any more: {error}; "
                f"the results are in {self._stage}"
            ) from error
        shutil.rmtree(self._stage, ignore_errors=True)
        if torn or not saved:
            raise OSError(
                f"lm_eval could not save {', '.join(torn) or 'its results'} as a whole; "
                "its warning and the table of results are above"
            )
        return [path for path in delivered if path.suffix == ".json"]


def _try_writing(place: Path, name: str, advice: str) -> None:
    """Writes a file where the directory is or would be made, and leaves nothing behind."""
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
        raise OSError(f"{name} cannot be written: {reason}; {advice}") from error


def _is_whole(path: Path) -> bool:
    """Whether all of a JSON file, or of one with a JSON object a line, was written."""
    with path.open("rb") as file:
        if path.suffix == ".jsonl":
            file.seek(-min(1, path.stat().st_size), os.SEEK_END)
            return file.read() in (b"", b"\n")
        try:
            return bool(json.load(file))
        except ValueError:
            return False


def _write_whole(source: Path, target: Path) -> None:
    """Copies a file so that, under its own name, it is there as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
