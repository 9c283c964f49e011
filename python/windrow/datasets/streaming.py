"""Batches from a stream that does not fit in memory, sorted and bucketed within windows.

All shapes are known in advance. A window of requests is read, planned like any other set of requests, and
yielded batch by batch; then the next window is read. Only the last batch of a window has rows of padding, so
in windows of a hundred batches, fewer than one row in a hundred is padding.

```text
window of 4 requests, batches of 2, padded lengths [4, 8]
lengths in the stream      3 7 2 4      |  1 6 5 8      |  2
batches                    [7 4] [3 2]     [8 6] [5 1]     [2 -]
their padded lengths       8     4         8     8         4
```

The iterator's state holds the stream's state before the window, and the number of batches of the window
already yielded. To resume, the window is read and planned again.

With several Grain workers, each reads the whole stream, but plans only its share of the windows, in turn.
Windows and request numbers are the same as with a single reader.
"""

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import grain
import numpy as np

from windrow.admission import admit_count, kind_of
from windrow.batch import LLMIndexedBatch
from windrow.datasets.planned import IndexedBatchDataset, Sequences
from windrow.datasets.requests import (
    leave_out,
    number_of,
    segments_of,
    sequences_of,
    texts_of,
    warn_of,
    whole_number,
)
from windrow.planning import Plan
from windrow.sharding import HostShare
from windrow.tokens import Tokenizer, load_tokenizer
from windrow.tokens.segments import BadRequest

T = TypeVar("T")

Encode = Callable[[list[Any], int], Sequences]
"""Turns a window's requests, given the number of the first one, into sequences."""


class StreamedBatchDataset(grain.IterDataset):
    """The requests of a stream as `LLMIndexedBatch`, sorted within windows.

    Args:
        requests: The stream, the same on every host.
        encode: Turns a window's requests into sequences.
        window: The number of requests that are read at a time.
        batch_size: Rows of every batch over all hosts.
        padded_lengths: The lengths batches may have, ascending.
        share: The rows this host holds; all by default.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip requests longer than every padded length, with a
            warning.

    Raises:
        TypeError: ``requests`` is not an ``IterDataset``, or a number is not an integer.
        ValueError: ``window`` is smaller than a batch, ``padded_lengths`` is empty
            or not ascending, ``batch_size`` cannot be split over the hosts, or,
            when a window is read, a request is longer than every padded length.
    """

    def __init__(
        self,
        requests: grain.IterDataset,
        encode: Encode,
        *,
        window: int,
        batch_size: int,
        padded_lengths: Sequence[int],
        share: HostShare | None = None,
        on_bad_request: BadRequest = "raise",
    ) -> None:
        _admit_stream(requests)
        if on_bad_request not in ("raise", "skip"):
            raise ValueError(f"on_bad_request must be 'raise' or 'skip', not {on_bad_request!r}")
        super().__init__(requests)
        self._on_bad_request = on_bad_request
        self._worker, self._workers = 0, 1
        self.window = admit_count("window", window)
        self.batch_size = admit_count("batch_size", batch_size)
        if not isinstance(padded_lengths, Iterable):
            raise TypeError(f"padded_lengths must be a list of lengths, not {padded_lengths!r}")
        self.padded_lengths = [
            admit_count(f"padded_lengths[{index}]", length) for index, length in enumerate(padded_lengths)
        ]
        self._share = share or HostShare((0,), 1)
        self._encode = encode
        self._plan(np.zeros(0, np.int32))  # raises if no window could be planned with these arguments
        if window < batch_size:
            raise ValueError(
                f"window is {window}, less than the {batch_size} rows of a batch; make it several batches"
            )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The possible shapes of batches over all hosts: rows and length."""
        return [(self.batch_size, length) for length in self.padded_lengths]

    def __iter__(self) -> grain.DatasetIterator:
        requests = self.parents[0].__iter__()
        return _StreamIterator(requests, self._batches, self.window, self._worker, self._workers)

    def set_slice(self, sl: slice, sequential_slice: bool = False) -> None:  # noqa: ARG002  Grain's protocol
        """Restricts this dataset to one worker's windows; Grain calls it on each worker's copy.

        Args:
            sl: ``slice(worker, None, workers)``.
            sequential_slice: Has no effect, because the end of a stream is not known in advance.
        """
        self._worker, self._workers = sl.start or 0, sl.step or 1

    def __str__(self) -> str:
        return f"StreamedBatchDataset(window={self.window}, shapes={self.shapes})"

    __repr__ = __str__

    def _batches(self, requests: list[Any], first: int) -> IndexedBatchDataset:
        """The batches of one window."""
        sequences = self._encode(requests, first)
        lengths, most = sequences.lengths(), self.padded_lengths[-1]
        if (long := lengths > most).any():
            bad = {
                int(number): f"the model would see {length} tokens, more than {most}, the last of "
                "padded_lengths; add a length, or give max_length"
                for number, length in zip(sequences.requests[long], lengths[long], strict=True)
            }
            leave_out(bad, self._on_bad_request)
            sequences = sequences.only(~np.isin(sequences.requests, list(bad)))
        return IndexedBatchDataset(self._plan(sequences.lengths()), sequences, self._share)

    def _plan(self, lengths: np.ndarray[Any, np.dtype[np.int32]]) -> Plan:
        return Plan(
            lengths,
            batch_size=self.batch_size,
            row_multiple=self._share.block_count,
            padded_lengths=self.padded_lengths,
        )


class _StreamIterator(grain.DatasetIterator):
    def __init__(
        self,
        requests: grain.DatasetIterator,
        make: Callable[[list[Any], int], IndexedBatchDataset],
        window: int,
        worker: int,
        workers: int,
    ) -> None:
        super().__init__(requests)
        self._requests = requests
        self._make = make
        self._window, self._worker, self._workers = window, worker, workers
        self._before = copy.deepcopy(requests.get_state())  # the stream's state before the window
        self._first_request = 0
        self._next_batch = 0
        self._batches: IndexedBatchDataset | None = None
        self._read = 0

    def __next__(self) -> LLMIndexedBatch:
        while self._batches is None or self._next_batch >= len(self._batches):
            self._open_window()
        batch: LLMIndexedBatch = self._batches[self._next_batch]
        self._next_batch += 1
        if self._next_batch == len(self._batches):
            self._pass_window()
        return batch

    def get_state(self) -> dict[str, Any]:
        return {
            "before_window": copy.deepcopy(self._before),
            "first_request": self._first_request,
            "next_batch": self._next_batch,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        for key in ("before_window", "first_request", "next_batch"):
            if key not in state:
                raise KeyError(f"state has no {key!r}, only {sorted(state)}; pass the result of get_state()")
        self._before = copy.deepcopy(state["before_window"])
        self._requests.set_state(copy.deepcopy(self._before))
        self._first_request = state["first_request"]
        self._next_batch = state["next_batch"]
        self._batches = None

    def __str__(self) -> str:
        return f"StreamIterator(window={self._window})"

    __repr__ = __str__

    def _open_window(self) -> None:
        """Reads this worker's next window."""
        if self._batches is not None:
            self._pass_window()
        requests = self._read_window()
        while requests and self._first_request // self._window % self._workers != self._worker:
            self._pass_window()
            requests = self._read_window()
        if not requests and self._next_batch == 0:
            raise StopIteration
        self._batches = self._make(requests, self._first_request)
        if self._next_batch > len(self._batches):
            raise IndexError(
                f"the state's next_batch is {self._next_batch}, but its window has {len(self._batches)} "
                "batches; the state belongs to another stream or another policy"
            )

    def _read_window(self) -> list[Any]:
        requests = list(islice(self._requests, self._window))
        self._read = len(requests)
        return requests

    def _pass_window(self) -> None:
        self._before = copy.deepcopy(self._requests.get_state())
        self._first_request += self._read
        self._next_batch = 0
        self._batches = None


def evaluation_stream(
    requests: grain.IterDataset,
    tokenizer: Tokenizer | str | os.PathLike[str] | None,
    *,
    window: int,
    batch_size: int,
    padded_lengths: Sequence[int],
    max_length: int | None = None,
    host_index: int = 0,
    host_count: int = 1,
    on_bad_request: BadRequest = "raise",
) -> StreamedBatchDataset:
    """Makes a Grain ``IterDataset`` of host batches from a stream, sorted and bucketed within windows.

    Use it for requests that do not fit in memory; for those that do, `evaluation_dataset` makes better plans.
    Requests become segments as in lm-eval's own backend. All batches have one of the given shapes, and an
    iterator can be checkpointed after any batch.

    A request without an ``idx`` is numbered by its position in the stream, from 0. With ``mp_prefetch`` after
    this dataset, each worker reads the whole stream, but only encodes and plans its share of the windows. Do
    not put ``mp_prefetch`` before this
    dataset: Grain's workers change the order of what they read.

    Args:
        requests: The stream, the same on every host, in the forms that
            `lmeval_preprocessing_pipeline` takes; all of one type, and with at most
            two arguments. Without a tokenizer: dictionaries of ``tokens``, a whole
            sequence of which the model sees all but the last token, and optionally
            ``score_start``, the index of the first scored token (default 1), and
            ``idx``.
        tokenizer: A tokenizer, or anything `load_tokenizer` takes; ``None`` if
            requests are tokens.
        window: The number of requests that are sorted together.
        batch_size: Rows of every batch over all hosts.
        padded_lengths: The lengths batches may have, ascending.
        max_length: The maximum input length in tokens; ``None`` for no limit.
        host_index: This host's index.
        host_count: The number of hosts; each holds an equal block of rows.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip requests that cannot be scored, with a warning;
            others keep their numbers.

    Returns:
        A dataset of `LLMIndexedBatch`.

    Raises:
        TypeError, ValueError: See `StreamedBatchDataset`; or, when a window is
            read, a request cannot be scored. Errors refer to requests by number.
        IndexError: There is no such host.
    """
    encode: Encode = partial(_stack, on_bad_request=on_bad_request)
    if tokenizer is not None:
        encode = _Encoder(tokenizer, max_length, on_bad_request)
    return StreamedBatchDataset(
        requests,
        encode,
        window=window,
        batch_size=batch_size,
        padded_lengths=padded_lengths,
        share=HostShare.contiguous(host_index, host_count),
        on_bad_request=on_bad_request,
    )


class _Encoder:
    """Encodes a window's texts; pickles contain the tokenizer or its source, whichever was passed."""

    def __init__(
        self,
        source: Tokenizer | str | os.PathLike[str],
        max_length: int | None,
        on_bad_request: BadRequest,
    ) -> None:
        self._source = source
        self._max_length = max_length
        self._on_bad_request = on_bad_request
        self._tokenizer = source if isinstance(source, Tokenizer) else load_tokenizer(source)

    def __call__(self, requests: list[Any], first: int) -> Sequences:
        texts = _readable(requests, first, texts_of, self._on_bad_request)
        segments = segments_of(self._tokenizer, texts, self._max_length, self._on_bad_request)
        return sequences_of(segments, texts)

    def __reduce__(self) -> tuple[type["_Encoder"], tuple[Any, ...]]:
        return _Encoder, (self._source, self._max_length, self._on_bad_request)


def _admit_stream(requests: Any) -> None:
    if isinstance(requests, grain.IterDataset):
        return
    advice = "wrap its source sequence: grain.MapDataset.source(sequence).to_iter_dataset()"
    if isinstance(requests, grain.MapDataset):
        advice = "use .to_iter_dataset(), or windrow.evaluation_dataset"
    raise TypeError(f"requests must be a grain.IterDataset, not {type(requests).__name__}; {advice}")


def _readable(
    requests: list[Any], first: int, read: Callable[[Any, int], T], on_bad_request: BadRequest
) -> list[T]:
    """The result of ``read`` for each request and its number; invalid requests may be skipped."""
    good, bad = [], []
    for number, request in enumerate(requests, first):
        try:
            if request is not None:
                good.append(read(request, number))
        except (KeyError, TypeError, ValueError) as error:
            if on_bad_request == "raise":
                raise
            bad.append(str(error.args[0]))
    warn_of(bad)
    return good


def _stack(requests: list[Any], first: int, on_bad_request: BadRequest) -> Sequences:
    """The sequences of requests that are already tokens."""
    read = _readable(requests, first, _read_tokens, on_bad_request)
    tokens = [each for each, _, _ in read]
    return Sequences(
        np.concatenate([np.zeros(0, np.int32), *tokens]),
        np.cumsum([0, *map(len, tokens)]).astype(np.int64),
        np.array([start for _, start, _ in read], np.int32),
        np.array([number for _, _, number in read], np.int64),
    )


def _read_tokens(request: Any, number: int) -> tuple[np.ndarray[Any, np.dtype[np.int32]], int, int]:
    """A request's tokens, where scoring starts, and its own number, if it has one."""
    if not isinstance(request, Mapping):
        raise TypeError(f"request {number} is {kind_of(request)}; it must be a dictionary of tokens")
    return _tokens(request, number), _score_start(request, number), number_of(request, number)


def _tokens(request: Mapping[str, Any], number: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    if "tokens" not in request:
        raise KeyError(
            f"request {number} has no 'tokens', only {sorted(request)}; give tokens, or a tokenizer for texts"
        )
    tokens = np.asarray(request["tokens"])
    if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"tokens of request {number} are {tokens.dtype}{list(tokens.shape)}; "
            "they must be a one-dimensional, non-empty sequence of integers"
        )
    if tokens.min() < 0 or tokens.max() > np.iinfo(np.int32).max:
        raise ValueError(
            f"tokens of request {number} range from {tokens.min()} to {tokens.max()}; they must be "
            "non-negative and fit int32"
        )
    return tokens.astype(np.int32)


def _score_start(request: Mapping[str, Any], number: int) -> int:
    start, tokens = whole_number(request, "score_start", number, default=1), len(request["tokens"])
    if not 1 <= start <= tokens:
        raise ValueError(
            f"score_start of request {number} is {start}; with {tokens} tokens it must be from 1 to {tokens}"
        )
    return start
