"""Turns rows into documents, and documents into segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windrow import _rust
from windrow.admission import kind_of
from windrow.corpus.rows import BadRow
from windrow.tokens import Segments, Tokenizer, loglikelihood_segments, rolling_segments

Kind = Literal["text", "pair", "tokens"]

_MOST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Columns:
    """The columns of documents: of texts (the default), of contexts and continuations, or of tokens.

    Attributes:
        text: The column of whole texts; ``"text"`` if no other kind is given.
        context: The column of contexts.
        continuation: The column of continuations, which are scored.
        tokens: The column of token lists; the first token of each is not scored.
        id: The column of ids; without it, a document's id is its file and row.

    Raises:
        ValueError: Columns of more than one kind are given, or only one of ``context`` and ``continuation``.
    """

    text: str | None = None
    context: str | None = None
    continuation: str | None = None
    tokens: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        """Rejects columns of more than one kind."""
        if (self.context is None) != (self.continuation is None):
            raise ValueError("context_column and continuation_column belong together: give both or neither")
        given = [self.text, self.context, self.tokens]
        if sum(name is not None for name in given) > 1:
            raise ValueError(
                "give one of text_column, tokens_column, or context_column with continuation_column"
            )
        if not any(given):
            object.__setattr__(self, "text", "text")

    @property
    def kind(self) -> Kind:
        """The kind of each document."""
        return "tokens" if self.tokens is not None else "pair" if self.context is not None else "text"

    @property
    def needed(self) -> list[str]:
        """All columns that are read, without duplicates."""
        named = (self.text, self.context, self.continuation, self.tokens, self.id)
        return list(dict.fromkeys(name for name in named if name is not None))


@dataclass
class Documents:
    """The documents of a window.

    Attributes:
        ids: The id of each document.
        contents: The text, pair of texts, or ``int32`` tokens of each one; empty if its row was not valid.
        skipped: The reason why a document is not scored, by index.
    """

    ids: list[str]
    contents: list[Any]
    skipped: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.ids)

    def skip(self, index: int, reason: str) -> None:
        """Records why a document is not scored; the first reason counts."""
        self.skipped.setdefault(index, reason)

    def skip_all(self, reasons: Mapping[int, str]) -> None:
        """Records why several documents are not scored, by index."""
        for index, reason in reasons.items():
            self.skip(index, reason)

    def sizes(self, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes and words of each scored text, ``int64[n]`` each, counted as in lm_eval; 0 for tokens."""
        if kind == "tokens":
            return np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        return _rust.text_sizes(
            [content[1] for content in self.contents] if kind == "pair" else self.contents
        )


def read_documents(columns: Columns, places: Sequence[str], rows: Sequence[Any]) -> Documents:
    """Reads documents from rows; rows without a valid document are skipped.

    Args:
        columns: The names of the columns.
        places: Each row's place, such as ``"a.jsonl:17"``, which is the id if there is no id column.
        rows: The rows.
    """
    if found := _plain(columns, places, rows):
        return found
    kind = columns.kind
    documents = Documents(list(places), [_EMPTY[kind]] * len(rows))
    for index, row in enumerate(rows):
        try:
            if columns.id is not None:
                documents.ids[index] = str(_value(row, columns.id))
            documents.contents[index] = _content(columns, kind, row)
        except _NoDocumentError as error:
            documents.skip(index, str(error))
    return documents


def _plain(columns: Columns, places: Sequence[str], rows: Sequence[Any]) -> Documents | None:
    """The documents of rows that are all objects with a text: much faster than one row at a time."""
    if columns.text is None or {*map(type, rows)} != {dict}:
        return None
    try:
        texts = [row[columns.text] for row in rows]
        ids = list(places) if columns.id is None else [str(row[columns.id]) for row in rows]
    except KeyError:
        return None
    return Documents(ids, texts) if {*map(type, texts)} == {str} and all(texts) else None


def segments_of(
    documents: Documents, kind: Kind, tokenizer: Tokenizer | None, max_length: int | None
) -> Segments:
    """The segments of documents; a whole text longer than ``max_length`` tokens has several.

    The segments' report says which documents cannot be scored, and why.
    """
    contents = documents.contents
    if kind == "tokens" or tokenizer is None:
        return token_segments(contents, max_length)
    make: Any = rolling_segments if kind == "text" else loglikelihood_segments
    segments: Segments = make(tokenizer, contents, max_length=max_length, on_bad_request="skip")
    return segments


def token_segments(sequences: Sequence[NDArray[np.int32]], max_length: int | None) -> Segments:
    """The segments of token sequences: windows as in `rolling_segments`, with the first token as context.

    Args:
        sequences: ``n`` arrays ``int32[k]``; a sequence without a second token has no segment.
        max_length: The maximum input length in tokens; ``None`` for no limit.

    >>> made = token_segments([np.arange(8, dtype=np.int32)], 3)
    >>> [made.tokens[a:b].tolist() for a, b in zip(made.offsets, made.offsets[1:])], made.score_starts
    ([[0, 1, 2, 3], [3, 4, 5, 6], [4, 5, 6, 7]], array([1, 1, 3], dtype=int32))
    """
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    requests, begins, ends, score_starts = _rust.rolling_windows(lengths, max_length)
    spans = zip(requests.tolist(), begins.tolist(), ends.tolist(), strict=True)
    parts = [sequences[at][begin:end] for at, begin, end in spans]
    return Segments.of(parts, score_starts, requests, len(sequences))


class _NoDocumentError(Exception):
    """A row without a valid document; the message says why."""


_EMPTY: dict[Kind, Any] = {"text": "", "pair": ("", ""), "tokens": np.zeros(0, np.int32)}


def _value(row: Any, name: str) -> Any:
    if isinstance(row, BadRow):
        raise _NoDocumentError(row.reason)
    if not hasattr(row, "keys"):
        raise _NoDocumentError(f"column {name!r} is needed, but the document is {kind_of(row)}")
    if name not in row:
        raise _NoDocumentError(f"no column {name!r}, only {', '.join(map(str, row)) or 'an empty object'}")
    return row[name]


def _content(columns: Columns, kind: Kind, row: Any) -> Any:
    if kind == "tokens":
        whole = isinstance(row, np.ndarray | list | tuple)
        return _tokens(row if whole else _value(row, str(columns.tokens)))
    if kind == "pair":
        if isinstance(row, tuple | list) and len(row) == 2:
            return _text("context", row[0], True), _text("continuation", row[1])
        names = str(columns.context), str(columns.continuation)
        return _text(names[0], _value(row, names[0]), True), _text(names[1], _value(row, names[1]))
    return (
        _text("text", row)
        if isinstance(row, str)
        else _text(str(columns.text), _value(row, str(columns.text)))
    )


def _text(name: str, value: Any, may_be_empty: bool = False) -> str:
    if isinstance(value, BadRow):
        raise _NoDocumentError(f"{name}: {value.reason}")
    if not isinstance(value, str):
        raise _NoDocumentError(
            f"{name} must be a string, not {'null' if value is None else type(value).__name__}"
        )
    if not value and not may_be_empty:
        raise _NoDocumentError(f"{name} is empty")
    return value


def _tokens(value: Any) -> NDArray[np.int32]:
    array = np.asarray(value if isinstance(value, np.ndarray | list | tuple) else [None])
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise _NoDocumentError("tokens must be a list of whole numbers")
    if len(array) < 2:
        raise _NoDocumentError("fewer than two tokens, and the first one is context only: nothing to score")
    if array.min() < 0 or array.max() > _MOST:
        raise _NoDocumentError(f"token {array.min() if array.min() < 0 else array.max()} is not a token id")
    return array.astype(np.int32, copy=False)
