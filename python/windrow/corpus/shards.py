"""Shards: the scores of one window as a Parquet file or as JSON lines."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.scoring import CorpusScores

FORMATS = ("parquet", "jsonl")


@dataclass(frozen=True)
class ShardFormat:
    """What a shard holds, and how.

    Attributes:
        kind: ``"parquet"`` or ``"jsonl"``.
        token_logprobs: Whether to keep each token's log-probability.
        worst_tokens: How many of the least likely tokens to keep for each document.

    Raises:
        ValueError: There is no such format, or the number is below 0.
    """

    kind: str = "parquet"
    token_logprobs: bool = False
    worst_tokens: int = 0

    def __post_init__(self) -> None:
        """Rejects unknown formats."""
        if self.kind not in FORMATS:
            raise ValueError(f"format must be {' or '.join(map(repr, FORMATS))}, not {self.kind!r}")
        if (
            isinstance(self.worst_tokens, bool)
            or not isinstance(self.worst_tokens, int)
            or self.worst_tokens < 0
        ):
            raise ValueError(f"worst_tokens must be a whole number of at least 0, not {self.worst_tokens!r}")

    def encoded(self, columns: dict[str, Any]) -> bytes:
        """A shard's bytes."""
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({name: _column(name, values) for name, values in columns.items()})
        if self.kind == "jsonl":
            lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
            return "".join(f"{line}\n" for line in lines).encode(errors="replace")
        written = pa.BufferOutputStream()
        parquet.write_table(table, written, compression="zstd")
        encoded: bytes = written.getvalue().to_pybytes()
        return encoded

    def columns(
        self,
        ids: list[str],
        scores: CorpusScores,
        targets: NDArray[np.int32],
        sizes: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> dict[str, Any]:
        """The columns of a shard; a skipped document has neither a log-likelihood nor a greedy flag.

        Args:
            ids: The documents' ids.
            scores: Their scores.
            targets: ``int32[m]``, the scored tokens, in document order.
            sizes: The bytes and words of each scored text; ``None`` if documents are tokens.
        """
        missing = np.zeros(len(ids), np.bool_)
        missing[scores.skipped] = True
        unknown = np.ones(len(ids), np.bool_)
        length, words = (None, None) if sizes is None else sizes
        columns: dict[str, Any] = {
            "id": ids,
            "log_likelihood": (scores.log_likelihoods, missing),
            "tokens": (np.where(missing, 0, scores.token_counts), None),
            "bytes": (np.zeros(len(ids), np.int64), unknown) if length is None else (length, None),
            "words": (np.zeros(len(ids), np.int64), unknown) if words is None else (words, None),
            "greedy": (scores.greedy, missing),
        }
        if self.token_logprobs:
            columns["token_logprobs"] = scores.offsets, {"": scores.token_logprobs}
        if self.worst_tokens:
            columns["worst_tokens"] = _worst(self.worst_tokens, scores, targets)
        return columns


def _worst(most: int, scores: CorpusScores, targets: NDArray[np.int32]) -> tuple[NDArray[np.int64], Any]:
    """Each document's least likely tokens, the least likely first: offsets and the fields of each."""
    counts = np.diff(scores.offsets)
    document = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((scores.token_logprobs, document))  # by document, then by log-probability
    place = np.arange(len(order)) - scores.offsets[document]
    kept = order[place < most]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, most))]).astype(np.int64)
    return offsets, {
        "position": (kept - scores.offsets[document[kept]]).astype(np.int32),
        "token": targets[kept],
        "logprob": scores.token_logprobs[kept],
    }


def _column(name: str, values: Any) -> Any:
    import pyarrow as pa

    if name == "id":
        return pa.array([each.encode(errors="replace").decode() for each in values], pa.string())
    first, second = values
    if not isinstance(second, dict):
        return pa.array(first, mask=second)
    if list(second) == [""]:
        return pa.ListArray.from_arrays(pa.array(first.astype(np.int32)), pa.array(second[""]))
    fields = pa.StructArray.from_arrays([pa.array(array) for array in second.values()], list(second))
    return pa.ListArray.from_arrays(pa.array(first.astype(np.int32)), fields)
