"""Reports progress: a bar on the terminal, a JSON line per minute, and a summary of a run's folder."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import exp, log
from pathlib import Path
from time import monotonic
from typing import Any

from tqdm.auto import tqdm

from windrow.corpus.folder import read_manifest, read_windows_done, totals

EVERY_SECONDS = 60

_NEEDED = {"time", "seconds", "tokens_per_second", "seconds_left"}
"""The fields that a line must have for a report."""


class Progress:
    """Counts the windows of this host.

    Args:
        folder: The run's folder.
        host: This host's number.
        shows: Whether to show a bar on standard error.
    """

    def __init__(self, folder: Path, host: int, shows: bool) -> None:
        self._path = folder / f"progress-{host:05}.jsonl"
        self._begin = self._written = monotonic()
        self._documents = self._tokens = self._windows = 0
        self._first: tuple[float, float] | None = None
        self._part: float | None = None
        self._bar = tqdm(desc="Scoring", unit=" documents", unit_scale=True, disable=not shows)

    def add(self, record: dict[str, Any], part: float | None) -> None:
        """Counts a window.

        Args:
            record: The window's record.
            part: The fraction of the input that has been read, from 0 to 1; ``None`` if unknown.
        """
        if self._first is None and part is not None:
            self._first = monotonic(), part
        self._part = part
        self._windows += 1
        self._documents += record["documents"]
        self._tokens += record["tokens"]
        figures = self._figures()
        left = figures["seconds_left"]
        ending = "" if left is None else f", {timedelta(seconds=round(left))} left"
        self._bar.set_postfix_str(f"{figures['tokens_per_second']:,.0f} tokens/s{ending}", refresh=False)
        self._bar.update(record["documents"])
        if monotonic() - self._written >= EVERY_SECONDS:
            self.write()

    def _figures(self) -> dict[str, Any]:
        """The figures of this host since it started."""
        seconds = monotonic() - self._begin
        left, part = None, self._part
        if self._first is not None and part is not None and part > self._first[1]:
            left = (monotonic() - self._first[0]) * (1 - part) / (part - self._first[1])
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "windows": self._windows,
            "documents": self._documents,
            "tokens": self._tokens,
            "tokens_per_second": round(self._tokens / max(seconds, 1e-9), 1),
            "part": None if part is None else round(part, 6),
            "seconds_left": None if left is None else round(left, 1),
        }

    def write(self) -> None:
        """Appends a line to the host's progress file. A failure to write it does not stop the run."""
        self._written = monotonic()
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._figures()) + "\n")

    def close(self) -> None:
        """Closes the bar and writes the last line."""
        self._bar.close()
        if self._windows:
            self.write()


@dataclass(frozen=True)
class CorpusReport:
    """A summary of a run's folder.

    Attributes:
        folder: The folder.
        is_complete: Whether every document has been scored.
        documents: The number of documents scored or skipped so far.
        skipped: The number of documents skipped.
        tokens: The number of scored tokens.
        bytes: The number of bytes in the scored texts.
        words: The number of words in the scored texts, counted as in lm_eval.
        log_likelihood: The sum of all log-likelihoods in nats.
        hosts: The last progress line of each host, by host number.
    """

    folder: Path
    is_complete: bool
    documents: int
    skipped: int
    tokens: int
    bytes: int
    words: int
    log_likelihood: float
    hosts: dict[int, dict[str, Any]]

    @property
    def perplexities(self) -> dict[str, float]:
        """``token_perplexity``, ``byte_perplexity``, ``word_perplexity``, ``bits_per_byte``, if defined."""
        by = {"token": self.tokens, "byte": self.bytes, "word": self.words}
        found = {
            f"{name}_perplexity": _exp(-self.log_likelihood / count) for name, count in by.items() if count
        }
        return found | ({"bits_per_byte": -self.log_likelihood / self.bytes / log(2)} if self.bytes else {})

    def skipped_documents(self) -> Iterator[tuple[str, str]]:
        """The id of each skipped document, with the reason."""
        for record in read_windows_done(self.folder).values():
            yield from ((each["id"], each["reason"]) for each in record["skipped"])

    def __str__(self) -> str:
        """The report as a few lines of text."""
        lines = [
            f"windrow     {self.folder}, {'complete' if self.is_complete else 'incomplete'}",
            f"documents   {self.documents:,}, of which {self.skipped:,} skipped",
            f"tokens      {self.tokens:,} scored, in {self.bytes:,} bytes and {self.words:,} words",
        ]
        if self.perplexities:
            perplexities = (
                f"{name.replace('_perplexity', '').replace('_', ' ')} {value:,.6g}"
                for name, value in self.perplexities.items()
            )
            lines.append("perplexity  by " + ", ".join(perplexities))
        for host, line in self.hosts.items():
            left = line["seconds_left"]
            ending = "" if left is None or self.is_complete else f", {timedelta(seconds=round(left))} left"
            lines.append(
                f"host {host:<6} {line['tokens_per_second']:,.0f} tokens/s over {line['seconds']:,.0f} s, "
                f"last update {line['time']}{ending}"
            )
        for name, reason in islice(self.skipped_documents(), 3):
            lines.append(f"skipped     {name}: {reason}")
        if self.skipped > 3:
            lines.append(f"            and {self.skipped - 3:,} more")
        return "\n".join(lines)


def read_report(path: Path) -> CorpusReport:
    """The report of a run's folder, finished or not.

    Raises:
        OSError, ValueError: The folder does not contain a run of ``windrow score``.
    """
    manifest = read_manifest(path)
    sums = totals(read_windows_done(path).values())
    files = {int(file.stem.partition("-")[2]): file for file in sorted(path.glob("progress-*.jsonl"))}
    hosts = {host: line for host, file in files.items() if (line := _last_line(file)) is not None}
    return CorpusReport(folder=path, is_complete=manifest["complete"], hosts=hosts, **sums)


def _last_line(file: Path) -> dict[str, Any] | None:
    """The last intact line of a progress file; torn and damaged lines are skipped."""
    for line in reversed(file.read_bytes().splitlines()):
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.keys() >= _NEEDED:
                return record
    return None


def _exp(value: float) -> float:
    try:
        return exp(value)
    except OverflowError:
        return float("inf")
