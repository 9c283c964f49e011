"""From requests, in whatever form they come, to the token sequences of a plan."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from windrow.datasets.planned import Sequences
from windrow.tokens import Segments, Tokenizer, loglikelihood_segments, rolling_segments
from windrow.transforms import ParseLMEval, request_texts

_ROLLING = "loglikelihood_rolling"
_MOST = np.iinfo(np.int32).max


class Requests(Protocol):
    """What requests are read from: a sequence, a data source, a Grain ``MapDataset``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Texts(NamedTuple):
    """A request's number and texts.

    Attributes:
        idx: The request's number, from 0.
        prefix: What the model is given; nothing for a text that is scored whole.
        text: What is scored.
        rolling: Whether the text is scored window by window.
    """

    idx: int
    prefix: str
    text: str
    rolling: bool = False


def read_texts(requests: Iterable[Any], first: int = 0) -> list[Texts]:
    """The texts of requests, numbered from ``first`` where they carry no ``idx`` of their own.

    A request is an lm_eval ``Instance``, or a dictionary of ``req``, an ``Instance``,
    or of ``prefix`` and ``text``; each dictionary may have an ``idx``. Requests that a
    ``filter`` took out (``None``) are left out, and keep their number.

    Raises:
        KeyError: A dictionary has neither.
        TypeError: A text is no string, an ``idx`` no whole number, or a request
            something else.
        ValueError: A request generates text, or has not one or two arguments, or
            an ``idx`` leaves no room in ``int32``.
    """
    return [_texts(request, number) for number, request in enumerate(requests, first) if request is not None]


def _texts(request: Any, number: int) -> Texts:
    if not isinstance(request, Mapping):
        return Texts(number, *request_texts(request, number), request.request_type == _ROLLING)
    item: Mapping[str, Any] = {"idx": number, **request}
    rolling = getattr(item.get("req"), "request_type", None) == _ROLLING
    if "req" in item:
        item = ParseLMEval().map(item)
    for key in ("prefix", "text"):
        if key not in item:
            raise KeyError(
                f"request {number} has no {key!r} but {sorted(item)}; give 'req', or 'prefix' and 'text'"
            )
        if not isinstance(item[key], str):
            raise TypeError(f"{key} of request {number} is a {type(item[key]).__name__}; it must be a text")
    if isinstance(item["idx"], bool) or not isinstance(item["idx"], (int, np.integer)):
        kind = type(item["idx"]).__name__
        raise TypeError(f"idx of request {number} is a {kind}; it must be a whole number")
    if not 0 <= item["idx"] < _MOST:
        raise ValueError(f"idx of request {number} is {item['idx']}; it must be from 0 to {_MOST - 1}")
    return Texts(int(item["idx"]), item["prefix"], item["text"], rolling)


def all_texts(requests: Requests) -> list[Texts]:
    """As `read_texts`, of a sequence with at least one request.

    Raises:
        ValueError: There is no request.
    """
    texts = read_texts(requests[index] for index in range(len(requests)))
    if not texts:
        raise ValueError("dataset is empty; give it at least one request")
    return texts


def sequences_apart(tokenizer: Tokenizer, texts: Sequence[Texts], first_token: int) -> Sequences:
    """Sequences of ``first_token``, then the prefix, then the scored text, each encoded by itself.

    Encoded apart, tokens never straddle the border, and no special tokens are
    added but the first. A request without a scored text becomes a sequence
    without scored targets.
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


def segments_of(tokenizer: Tokenizer, texts: Sequence[Texts], max_length: int | None) -> Segments:
    """Segments as lm-eval's own backend makes them; texts that are scored whole go window by window.

    Raises:
        ValueError: Requests are of both types, or something is wrong with one.
    """
    rolling = {each.rolling for each in texts}
    if len(rolling) == 2:
        raise ValueError(
            "requests are of both types, loglikelihood and loglikelihood_rolling; make a dataset of each"
        )
    if rolling == {True}:
        return rolling_segments(tokenizer, [each.text for each in texts], max_length=max_length)
    return loglikelihood_segments(
        tokenizer, [(each.prefix, each.text) for each in texts], max_length=max_length
    )


def sequences_of(segments: Segments, texts: Sequence[Texts]) -> Sequences:
    """The sequences of segments, each with the number that its request carries."""
    numbers = np.array([each.idx for each in texts], np.int64)
    return Sequences(segments.tokens, segments.offsets, segments.score_starts, numbers[segments.requests])
