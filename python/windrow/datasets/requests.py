"""Turns requests, in all supported forms, into the token sequences of a plan."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from windrow.admission import admit_requests, kind_of
from windrow.bad_requests import LISTED, BadRequestsError
from windrow.datasets.planned import Sequences
from windrow.tokens import Segments, Tokenizer, loglikelihood_segments, rolling_segments
from windrow.tokens.segments import BadRequest
from windrow.transforms import request_texts

LOGGER = logging.getLogger("windrow.datasets")

_ROLLING = "loglikelihood_rolling"
_MOST = np.iinfo(np.int32).max
_SHOWN = 60


class Requests(Protocol):
    """A source of requests: a sequence, a data source, a Grain ``MapDataset``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Texts(NamedTuple):
    """A request's number and texts.

    Attributes:
        idx: The request's number, from 0.
        prefix: The preceding text, which is not scored; empty for a text that is scored whole.
        text: The scored text.
        rolling: Whether the text is scored window by window.
    """

    idx: int
    prefix: str
    text: str
    rolling: bool = False


def read_texts(requests: Iterable[Any], first: int = 0, most: int | None = 2) -> list[Texts]:
    """The texts of requests, numbered from ``first`` if they have no ``idx`` of their own.

    A request is an lm_eval ``Instance``, or a dictionary with either ``req``, an ``Instance``, or ``prefix``
    and ``text``; each dictionary may have an ``idx``. Requests removed by a ``filter`` (``None``) are
    skipped; their numbers are not reused.

    Args:
        requests: The requests.
        first: The number of the first one.
        most: The maximum number of arguments of an ``Instance``; ``None`` for any number, of which the first
            two are used.

    Raises:
        KeyError: A dictionary has none of these keys.
        TypeError: A text is not a string, an ``idx`` is not an integer, or a request
            has another type.
        ValueError: A request generates text, its arguments are too few or too many,
            or its ``idx`` does not fit ``int32``.
    """
    return [
        texts_of(request, number, most)
        for number, request in enumerate(requests, first)
        if request is not None
    ]


def texts_of(request: Any, number: int, most: int | None = 2) -> Texts:
    """The texts of one request, as `read_texts` reads them."""
    if not isinstance(request, Mapping):
        if not hasattr(request, "request_type"):
            raise TypeError(
                f"request {number} is {kind_of(request)}; it must be an lm_eval Instance, or a dictionary "
                "with 'prefix' and 'text'"
            )
        return Texts(number, *request_texts(request, number, most), request.request_type == _ROLLING)
    item: Mapping[str, Any] = {"idx": number, **request}
    rolling = getattr(item.get("req"), "request_type", None) == _ROLLING
    if "req" in item:
        prefix, text = request_texts(item["req"], item["idx"], most)
        item = {**item, "prefix": prefix, "text": text}
    for key in ("prefix", "text"):
        if key not in item:
            raise KeyError(
                f"request {number} has no {key!r}, only {sorted(item)}; give 'req', or 'prefix' and 'text'"
            )
        if not isinstance(item[key], str):
            raise TypeError(f"{key} of request {number} is {kind_of(item[key])}; it must be a string")
    return Texts(number_of(item, number), item["prefix"], item["text"], rolling)


def number_of(request: Mapping[str, Any], number: int) -> int:
    """A request's own ``idx``, or else ``number``.

    Raises:
        TypeError: ``idx`` is not an integer.
        ValueError: It does not fit ``int32``.

    >>> number_of({"idx": 7}, 0), number_of({}, 3)
    (7, 3)
    """
    own = whole_number(request, "idx", number, default=number)
    if not 0 <= own < _MOST:
        raise ValueError(f"idx of request {number} is {own}; it must be from 0 to {_MOST - 1}")
    return own


def whole_number(request: Mapping[str, Any], key: str, number: int, default: int) -> int:
    """The integer at a key of request ``number``, or else ``default``.

    Raises:
        TypeError: It is not an integer.
    """
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{key} of request {number} is {kind_of(value)}; it must be a whole number")
    return int(value)


def all_texts(argument: str, requests: Requests, most: int | None = 2) -> list[Texts]:
    """The texts of all requests of a sequence, as `read_texts` reads them.

    Raises:
        TypeError, ValueError: As for `read_texts`; or ``requests`` is not a sequence, or is infinite.
    """
    admit_requests(argument, requests)
    return read_texts((requests[index] for index in range(len(requests))), most=most)


def sequences_apart(tokenizer: Tokenizer, texts: Sequence[Texts], first_token: int) -> Sequences:
    """Sequences of ``first_token``, the prefix and the scored text.

    The two texts are encoded separately, so that no token spans their boundary, and without the tokenizer's
    special tokens. An empty text gives a sequence without scored targets.
    """
    encoded, ends = tokenizer.encode_batch(
        [part for each in texts for part in (each.prefix, each.text)], add_special_tokens=False
    )
    offsets = ends[::2] + np.arange(len(texts) + 1)
    return Sequences(
        np.insert(encoded, ends[:-1:2], first_token).astype(np.int32, copy=False),
        offsets,
        (1 + np.diff(ends)[::2]).astype(np.int32),
        np.array([each.idx for each in texts], np.int64),
    )


def segments_of(
    tokenizer: Tokenizer,
    texts: Sequence[Texts],
    max_length: int | None,
    on_bad_request: BadRequest = "raise",
) -> Segments:
    """Segments, made as in lm-eval's own backend; rolling requests are split into windows.

    Raises:
        ValueError: Requests are of both types, or some cannot be scored and
            ``on_bad_request`` is ``"raise"``; the message names them by ``idx``.
    """
    if on_bad_request not in ("raise", "skip"):
        raise ValueError(f"on_bad_request must be 'raise' or 'skip', not {on_bad_request!r}")
    segments = _segments(tokenizer, texts, max_length)
    bad = {}
    for at, reason in segments.report.skipped.items():
        begin = (texts[at].prefix + texts[at].text)[:_SHOWN]
        bad[texts[at].idx] = f"{reason}; it starts with {begin!r}"
    leave_out(bad, on_bad_request)
    return segments


def leave_out(bad: Mapping[int, str], on_bad_request: BadRequest) -> None:
    """Raises an error for bad requests, or warns that they are skipped.

    Args:
        bad: The reason for each, by its number.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip them.

    Raises:
        BadRequestsError: A ``ValueError``, if there are bad requests that are not skipped.
    """
    if bad and on_bad_request == "raise":
        raise BadRequestsError(bad)
    warn_of([f"request {number}: {reason}" for number, reason in bad.items()])


def warn_of(lines: Sequence[str]) -> None:
    """Warns about skipped requests, with the reason for each."""
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    if lines:
        LOGGER.warning("skipped requests: %d\n%s", len(lines), "\n".join([*lines[:LISTED], *more]))


def _segments(tokenizer: Tokenizer, texts: Sequence[Texts], max_length: int | None) -> Segments:
    """The segments of all requests that can be scored."""
    rolling = {each.rolling for each in texts}
    if len(rolling) == 2:
        raise ValueError(
            "requests are of both types, loglikelihood and loglikelihood_rolling; use one dataset for each"
        )
    if rolling == {True}:
        whole = [each.text for each in texts]
        return rolling_segments(tokenizer, whole, max_length=max_length, on_bad_request="skip")
    return loglikelihood_segments(
        tokenizer,
        [(each.prefix, each.text) for each in texts],
        max_length=max_length,
        on_bad_request="skip",
    )


def sequences_of(segments: Segments, texts: Sequence[Texts]) -> Sequences:
    """The sequences of segments, with the ``idx`` of each one's request."""
    numbers = np.array([each.idx for each in texts], np.int64)
    return Sequences(segments.tokens, segments.offsets, segments.score_starts, numbers[segments.requests])
