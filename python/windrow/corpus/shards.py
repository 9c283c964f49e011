"""Shards: the scores of one window as a Parquet file or as JSON lines."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.admission import admit_whole
from windrow.scoring import CorpusScores

FORMATS = ("parquet", "jsonl")

_WORST = "worst_tokens.list.element"

REPEATED = ["tokens", "bytes", "words", f"{_WORST}.position", f"{_WORST}.token"]
"""The columns that a Parquet file stores with dictionaries, because their values repeat. For the others,
dictionaries would take more time and space."""


@dataclass(frozen=True)
class ShardFormat:
    """The format of a shard, and its optional columns.

    Attributes:
        kind: ``"parquet"`` or ``"jsonl"``.
        token_logprobs: Whether to save each token's log-probability.
        worst_tokens: The number of least likely tokens to save for each document.

    Raises:
        ValueError: The format is unknown, or ``worst_tokens`` is below 0.
    """

    kind: str = "parquet"
    token_logprobs: bool = False
    worst_tokens: int = 0

    def __post_init__(self) -> None:
        """Rejects unknown formats and numbers below 0."""
        if self.kind not in FORMATS:
            raise ValueError(f"format must be {' or '.join(map(repr, FORMATS))}, not {self.kind!r}")
        object.__setattr__(self, "worst_tokens", admit_whole("worst_tokens", self.worst_tokens, 0))

    def encoded(self, columns: dict[str, Any]) -> bytes:
        """The bytes of a shard with these columns, as from :meth:`columns`."""
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.Table.from_arrays([_column(values) for values in columns.values()], list(columns))
        if self.kind == "jsonl":
            lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
            return "".join(f"{line}\n" for line in lines).encode(errors="replace")
        written = pa.BufferOutputStream()
        parquet.write_table(table, written, compression="zstd", use_dictionary=REPEATED)
        encoded: bytes = written.getvalue().to_pybytes()
        return encoded

    def columns(
        self,
        ids: list[str],
        scores: CorpusScores,
        targets: NDArray[np.int32] | None,
        sizes: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> dict[str, Any]:
        """The columns of a shard; a skipped document has null for its log-likelihood and greedy flag.

        Args:
            ids: The documents' ids.
            scores: Their scores.
            targets: ``int32[m]``, the scored tokens, in document order, for the worst tokens; else ``None``.
            sizes: Bytes and words of each scored text, ``int64[n]`` each; ``None`` if documents are tokens.
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
        if targets is not None:
            columns["worst_tokens"] = _worst(self.worst_tokens, scores, targets)
        return columns


def _worst(most: int, scores: CorpusScores, targets: NDArray[np.int32]) -> tuple[NDArray[np.int64], Any]:
    """Offsets and fields of the ``most`` least likely tokens of each document, the least likely first."""
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


def _column(values: Any) -> Any:
    """An Arrow column: of ids, of an array and its missing values, or of lists as offsets and fields."""
    import pyarrow as pa

    if isinstance(values, list):
        return _strings(values)
    first, second = values
    if not isinstance(second, dict):
        return _array(first, second)
    fields = [_array(array) for array in second.values()]
    whole = fields[0] if list(second) == [""] else pa.StructArray.from_arrays(fields, list(second))
    return pa.ListArray.from_arrays(_array(first.astype(np.int32)), whole)


def _array(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> Any:
    """An Arrow array that shares NumPy's memory; ``pyarrow.array`` would import pandas."""
    import pyarrow as pa

    def bits(flags: NDArray[np.bool_]) -> Any:
        return pa.py_buffer(np.packbits(flags, bitorder="little"))

    data = bits(values) if values.dtype == np.bool_ else pa.py_buffer(np.ascontiguousarray(values))
    valid = None if missing is None else bits(~missing)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, data])


def _strings(texts: list[str]) -> Any:
    """An Arrow array of texts; a lone surrogate becomes a question mark."""
    import pyarrow as pa

    encoded = "".join(texts).encode(errors="replace")
    each = texts if encoded.isascii() else [text.encode(errors="replace") for text in texts]
    ends = np.fromiter(map(len, each), np.int64, len(texts)).cumsum()
    buffers = [None, pa.py_buffer(np.append(0, ends)), pa.py_buffer(encoded)]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers).cast(pa.string())
