"""Batches of a stream that does not fit in memory, sorted and bucketed within windows.

All shapes are known in advance. A window of requests is read, planned like any
other set of requests, and yielded batch by batch; then the next window is read.
Only the last batch of a window has rows of padding, so in windows of a hundred
batches fewer than one row in a hundred is padding.

```text
window of 4 requests, batches of 2, padded lengths [4, 8]
lengths in the stream      3 7 2 4      |  1 6 5 8      |  2
batches                    [7 4] [3 2]     [8 6] [5 1]     [2 -]
their padded lengths       8     4         8     8         4
```

A state holds the stream's state before the window and the number of the window's
batches already yielded. To resume, the window is read and planned again.
"""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import grain
import numpy as np

from windrow.batch import LLMIndexedBatch
from windrow.datasets.indexing import admit_count
from windrow.datasets.planned import IndexedBatchDataset, Sequences
from windrow.datasets.requests import read_texts, segments_of, sequences_of
from windrow.planning import Plan
from windrow.sharding import HostShare
from windrow.tokens import Tokenizer, load_tokenizer

Encode = Callable[[list[Any], int], Sequences]
"""Turns a window's requests, and the number of the first one, into their sequences."""


class StreamedBatchDataset(grain.IterDataset):
    """The requests of a stream as `LLMIndexedBatch`, sorted within windows.

    Args:
        requests: The stream, the same on every host.
        encode: Turns a window's requests into sequences.
        window: How many requests are read at a time.
        batch_size: Rows of every batch over all hosts.
        padded_lengths: The lengths batches may have, ascending.
        share: The rows this host holds; all by default.

    Raises:
        TypeError: ``requests`` is not an ``IterDataset``, or a number not an integer.
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
    ) -> None:
        if not isinstance(requests, grain.IterDataset):
            raise TypeError(
                f"requests must be a grain.IterDataset, not {type(requests).__name__}; "
                "use .to_iter_dataset() of a MapDataset, or windrow.evaluation_dataset"
            )
        super().__init__(requests)
        self.window = admit_count("window", window)
        self.batch_size = admit_count("batch_size", batch_size)
        self.padded_lengths = [admit_count("padded_lengths", length) for length in padded_lengths]
        self._share = share or HostShare((0,), 1)
        self._encode = encode
        self._plan(np.zeros(0, np.int32))  # refuses arguments no window could be planned with
        if window < batch_size:
            raise ValueError(
                f"window is {window}, less than the {batch_size} rows of a batch; give several batches"
            )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The possible shapes of batches over all hosts: rows and length."""
        return [(self.batch_size, length) for length in self.padded_lengths]

    def __iter__(self) -> grain.DatasetIterator:
        return _StreamIterator(self.parents[0].__iter__(), self._batches, self.window)

    def __str__(self) -> str:
        return f"StreamedBatchDataset(window={self.window}, shapes={self.shapes})"

    __repr__ = __str__

    def _batches(self, requests: list[Any], first: int) -> IndexedBatchDataset:
        """The batches of one window."""
        sequences = self._encode(requests, first)
        lengths = sequences.lengths()
        if len(lengths) and lengths.max() > self.padded_lengths[-1]:
            longest = lengths.argmax()
            raise ValueError(
                f"request {sequences.requests[longest]} shows the model {lengths[longest]} tokens, more than "
                f"{self.padded_lengths[-1]}, the last of padded_lengths; add a length, or give max_length"
            )
        return IndexedBatchDataset(self._plan(lengths), sequences, self._share)

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
    ) -> None:
        super().__init__(requests)
        self._requests = requests
        self._make = make
        self._window = window
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
                raise KeyError(f"state has no {key!r} but {sorted(state)}; give what get_state() returned")
        self._before = copy.deepcopy(state["before_window"])
        self._requests.set_state(copy.deepcopy(self._before))
        self._first_request = state["first_request"]
        self._next_batch = state["next_batch"]
        self._batches = None

    def __str__(self) -> str:
        return f"StreamIterator(window={self._window})"

    __repr__ = __str__

    def _open_window(self) -> None:
        """Reads the window that begins at the stream's current position."""
        if self._batches is not None:
            self._pass_window()
        requests = list(islice(self._requests, self._window))
        self._read = len(requests)
        if not requests and self._next_batch == 0:
            raise StopIteration
        self._batches = self._make(requests, self._first_request)
        if self._next_batch > len(self._batches):
            raise IndexError(
                f"state's next_batch is {self._next_batch}, but its window has {len(self._batches)} batches; "
                "it is of another stream or another policy"
            )

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
) -> StreamedBatchDataset:
    """A stream of requests as a Grain ``IterDataset`` of host batches, sorted and bucketed within windows.

    For requests that do not fit in memory; for those that do, `evaluation_dataset`
    plans better. Requests become segments exactly as in lm-eval's own backend.
    Batches have no other shapes than the planned ones, and an iterator can be
    checkpointed after any batch.

    Args:
        requests: The stream, the same on every host, in the forms that
            `lmeval_preprocessing_pipeline` takes; all of one type, and with at most
            two arguments. Without a tokenizer: dictionaries of ``tokens``, a whole
            sequence of which the model sees all but the last token, and optionally
            ``score_start``, the index of the first scored token (default 1), and
            ``idx``.
        tokenizer: A tokenizer, or anything `load_tokenizer` takes; ``None`` if
            requests are tokens.
        window: How many requests are sorted together.
        batch_size: Rows of every batch over all hosts.
        padded_lengths: The lengths batches may have, ascending.
        max_length: The most tokens the model can see at once; ``None`` for no
            limit.
        host_index: This host's index.
        host_count: The number of hosts; each holds an equal run of rows.

    Returns:
        A dataset of `LLMIndexedBatch`.

    Raises:
        TypeError, ValueError: See `StreamedBatchDataset`; or, when a window is
            read, a request is faulty.
        IndexError: There is no such host.
    """
    encode: Encode = _stack
    if tokenizer is not None:
        encode = _Encoder(tokenizer, max_length)
    return StreamedBatchDataset(
        requests,
        encode,
        window=window,
        batch_size=batch_size,
        padded_lengths=padded_lengths,
        share=HostShare.contiguous(host_index, host_count),
    )


class _Encoder:
    """Encodes a window's texts; when pickled, it carries its tokenizer's source if that is known."""

    def __init__(self, source: Tokenizer | str | os.PathLike[str], max_length: int | None) -> None:
        self._source = source
        self._max_length = max_length
        self._tokenizer = source if isinstance(source, Tokenizer) else load_tokenizer(source)

    def __call__(self, requests: list[Any], first: int) -> Sequences:
        texts = read_texts(requests, first)
        return sequences_of(segments_of(self._tokenizer, texts, self._max_length), texts)

    def __reduce__(self) -> tuple[type["_Encoder"], tuple[Any, ...]]:
        return _Encoder, (self._source, self._max_length)


def _stack(requests: list[Mapping[str, Any]], first: int) -> Sequences:
    """The sequences of requests that are already tokens."""
    tokens = [_tokens(request, number) for number, request in enumerate(requests, first)]
    starts = [_score_start(request, number) for number, request in enumerate(requests, first)]
    numbers = [int(request.get("idx", number)) for number, request in enumerate(requests, first)]
    return Sequences(
        np.concatenate([np.zeros(0, np.int32), *tokens]),
        np.cumsum([0, *map(len, tokens)]).astype(np.int64),
        np.array(starts, np.int32),
        np.array(numbers, np.int64),
    )


def _tokens(request: Mapping[str, Any], number: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    if "tokens" not in request:
        raise KeyError(
            f"request {number} has no 'tokens' but {sorted(request)}; give tokens, or a tokenizer for texts"
        )
    tokens = np.asarray(request["tokens"])
    if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"tokens of request {number} are {tokens.dtype}{list(tokens.shape)}; "
            "they must be one or more whole numbers in a row"
        )
    if tokens.min() < 0 or tokens.max() > np.iinfo(np.int32).max:
        raise ValueError(
            f"tokens of request {number} go from {tokens.min()} to {tokens.max()}; they must fit int32"
        )
    return tokens.astype(np.int32)


def _score_start(request: Mapping[str, Any], number: int) -> int:
    start, tokens = int(request.get("score_start", 1)), len(request["tokens"])
    if not 1 <= start <= tokens:
        raise ValueError(
            f"score_start of request {number} is {start}; with {tokens} tokens it must be from 1 to {tokens}"
        )
    return start
