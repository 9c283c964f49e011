"""Turns requests into segments, with lm-eval's semantics.

A segment is a complete token sequence. The model's input is all of it except the last token, and the tokens
from ``score_starts`` on are scored. The logits at each position score the next token.

    request      ("The cow", " eats")      context and continuation
    segment      [464, 9875, 25365]
    score start  2                         25365 is scored, by the logits at 9875
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windrow import _rust
from windrow.admission import admit_whole
from windrow.bad_requests import BadRequestsError
from windrow.tokens.report import TokenReport
from windrow.tokens.tokenizer import Tokenizer

BadRequest = Literal["raise", "skip"]

_SHOWN = 60
"""The number of characters of a bad request that an error shows."""

_LISTED = 10
"""The number of longest requests that a report lists."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Token sequences, and where scoring starts in each.

    Attributes:
        tokens: ``int32[t]``, all segments concatenated.
        offsets: ``int64[n + 1]``; segment ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``.
        score_starts: ``int32[n]``, at least 1: the index of the first scored token in each segment; 0 for
            prompts, which are not scored.
        requests: ``int64[n]``, ascending: the request that each segment belongs to.
        request_count: The number of requests, including skipped ones.
        skipped: ``int64[k]``, ascending: requests that were skipped because they are invalid.
        report: Statistics of the tokenization.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    score_starts: NDArray[np.int32]
    requests: NDArray[np.int64]
    request_count: int
    skipped: NDArray[np.int64]
    report: TokenReport

    @classmethod
    def of(
        cls,
        sequences: Sequence[NDArray[np.int32]],
        score_starts: Sequence[int] | NDArray[np.int32],
        requests: Sequence[int] | NDArray[np.int64] | None = None,
        request_count: int | None = None,
    ) -> "Segments":
        """Makes segments from token sequences.

        Args:
            sequences: ``n`` arrays, ``int32[k]`` each.
            score_starts: The index of the first scored token in each.
            requests: The request of each, ascending; by default, each is its own request.
            request_count: The number of requests; by default, ``n``.

        >>> made = Segments.of([np.array([5, 6, 7]), np.array([8, 9])], [1, 1])
        >>> made.tokens, made.offsets
        (array([5, 6, 7, 8, 9], dtype=int32), array([0, 3, 5]))
        """
        count = len(sequences)
        request_count = count if request_count is None else request_count
        tokens = np.concatenate(sequences) if count else np.zeros(0, np.int32)
        return cls(
            tokens.astype(np.int32, copy=False),
            np.cumsum([0, *map(len, sequences)], dtype=np.int64),
            np.asarray(score_starts, np.int32),
            np.arange(count) if requests is None else np.asarray(requests, np.int64),
            request_count,
            np.zeros(0, np.int64),
            TokenReport(request_count, count, len(tokens), 0, 0),
        )

    def __len__(self) -> int:
        """The number of segments."""
        return len(self.requests)

    def inputs(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens, ``int32[t - n]``, and offsets, ``int64[n + 1]``, of the model's inputs.

        An input is a segment without its last token.
        """
        keep = np.ones(len(self.tokens), np.bool_)
        keep[self.offsets[1:] - 1] = False
        return self.tokens[keep], self.offsets - np.arange(len(self.offsets))

    @cached_property
    def input_lengths(self) -> NDArray[np.int32]:
        """``int32[n]``: the length of each input. Read-only."""
        return _kept((np.diff(self.offsets) - 1).astype(np.int32))

    @cached_property
    def equal_inputs(self) -> NDArray[np.int64]:
        """``int64[n]``: the first segment with the same input. Read-only."""
        return _kept(_rust.group_identical(*self.inputs()))

    @cached_property
    def input_order(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The result of `windrow.planning.prefix_order` for the inputs. Read-only."""
        order, shared = _rust.prefix_order(*self.inputs())
        return _kept(order), _kept(shared)

    @property
    def fingerprint(self) -> str:
        """A line that identifies the segments, for comparison between hosts."""
        digest = blake2b(digest_size=8)
        for array in (self.tokens, self.offsets, self.score_starts, self.requests):
            digest.update(array.tobytes())
        return f"{len(self):,} sequences, {len(self.tokens):,} tokens, with the hash {digest.hexdigest()}"

    def only(self, which: NDArray[np.int64]) -> "Segments":
        """Some of the segments, ascending; requests keep their numbers."""
        lengths = np.diff(self.offsets)
        kept = np.zeros(len(self), np.bool_)
        kept[which] = True
        return replace(
            self,
            tokens=self.tokens[np.repeat(kept, lengths)],
            offsets=np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
            score_starts=self.score_starts[kept],
            requests=self.requests[kept],
        )

    def without(self, reasons: Mapping[int, str]) -> "Segments":
        """The segments of all other requests; those in ``reasons`` count as skipped."""
        kept = ~np.isin(self.requests, list(reasons))
        lengths = np.diff(self.offsets)
        tokens = self.tokens[np.repeat(kept, lengths)]
        report = self.report
        return replace(
            self,
            tokens=tokens,
            offsets=np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
            score_starts=self.score_starts[kept],
            requests=self.requests[kept],
            skipped=np.union1d(self.skipped, np.array(list(reasons), np.int64)),
            report=replace(
                report,
                segments=int(kept.sum()),
                tokens=len(tokens),
                truncated={each: cut for each, cut in report.truncated.items() if each not in reasons},
                longest={each: length for each, length in report.longest.items() if each not in reasons},
                skipped={**report.skipped, **reasons},
            ),
        )


def _kept(array: NDArray[Any]) -> NDArray[Any]:
    """The array, read-only, because it is cached."""
    array.flags.writeable = False
    return array


def loglikelihood_segments(
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    max_length: int | None = None,
    on_bad_request: BadRequest = "raise",
    encode_apart: bool = False,
) -> Segments:
    """Segments of ``loglikelihood`` requests: one per pair of context and continuation.

    The semantics are those of lm_eval 0.4.13 (``TemplateLM.loglikelihood`` and ``HFLM``). Trailing white
    space moves from the context to the continuation. The context is encoded alone, as ``c`` tokens, and the
    whole text is encoded; the continuation's tokens are those after the first ``c``. With an empty context,
    the continuation follows the prefix token. Segments are truncated to their last ``max_length + 1`` tokens.

    Args:
        tokenizer: The tokenizer.
        pairs: ``n`` pairs of strings, as in ``Instance.args``.
        max_length: The maximum input length in tokens; ``None`` for no limit.
        on_bad_request: ``"raise"`` rejects everything if a request is invalid; ``"skip"`` skips the request.
        encode_apart: Encode context and continuation separately, without moving white space, so that no token
            spans their boundary. lm-eval does not do this.

    Raises:
        ValueError: A request is invalid: its continuation is empty, merges into the context or is longer
            than ``max_length``, its context encodes to nothing, or it is not a pair of strings.
    """
    made = _rust.pair_segments(
        tokenizer.encoder,
        pairs,
        tokenizer.adds_special_tokens,
        tokenizer.prefix_text,
        tokenizer.prefix_token_id,
        _limit(max_length),
        encode_apart,
    )
    return _finish(made, pairs, 2, on_bad_request)


def rolling_segments(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    on_bad_request: BadRequest = "raise",
) -> Segments:
    """Segments of ``loglikelihood_rolling`` requests: one per window of a text.

    Every token of a text is scored once. The windows are those of lm_eval 0.4.13's
    ``get_rolling_token_windows`` with a context of one token, made disjoint. Without a limit, each text is
    one window. A text without tokens has no window.

    Args:
        tokenizer: The tokenizer.
        texts: ``n`` strings.
        max_length: The maximum input length in tokens; ``None`` for no limit.
        on_bad_request: ``"raise"`` rejects everything if a request is invalid; ``"skip"`` skips the request.

    Raises:
        ValueError: A text is not a string, or the tokenizer has no prefix token.
    """
    made = _rust.rolling_segments(
        tokenizer.encoder,
        texts,
        tokenizer.adds_special_tokens,
        tokenizer.prefix_text,
        tokenizer.prefix_token_id,
        _limit(max_length),
    )
    return _finish(made, texts, 1, on_bad_request)


def generation_prompts(
    tokenizer: Tokenizer,
    contexts: Sequence[str],
    *,
    max_new_tokens: int | Sequence[int],
    max_length: int | None = None,
    on_bad_request: BadRequest = "raise",
) -> Segments:
    """Prompts of ``generate_until`` requests, truncated to leave room for the new tokens.

    Contexts are truncated to their last ``max_length - max_new_tokens`` tokens. Special tokens are decided
    for each text separately, as lm_eval 0.4.13's ``HFLM.tok_batch_encode`` does for single texts: a context
    that begins with the BOS token gets none.

    Args:
        tokenizer: The tokenizer.
        contexts: ``n`` strings.
        max_new_tokens: The number of tokens to generate: one for all prompts, or ``n`` numbers.
        max_length: The maximum input length in tokens; ``None`` for no limit.
        on_bad_request: ``"raise"`` rejects everything if a request is invalid; ``"skip"`` skips the request.

    Raises:
        ValueError: A context is not a string, encodes to no tokens, or has no room besides the new tokens.
    """
    new = (
        [max_new_tokens] * len(contexts)
        if isinstance(max_new_tokens, int)
        else [int(n) for n in max_new_tokens]
    )
    if any(count < 1 for count in new):
        raise ValueError(f"max_new_tokens must be at least 1, not {min(new)}")
    made = _rust.prompt_segments(
        tokenizer.encoder,
        contexts,
        tokenizer.adds_special_tokens,
        tokenizer.bos_token,
        _limit(max_length),
        new,
    )
    return _finish(made, contexts, 1, on_bad_request)


def _limit(max_length: int | None) -> int | None:
    return None if max_length is None else admit_whole("max_length", max_length, also=", or None")


def _finish(made: Any, given: Sequence[Any], texts_each: int, on_bad_request: BadRequest) -> Segments:
    """Raises an error for invalid requests or records them, and adds the report."""
    if on_bad_request not in ("raise", "skip"):
        raise ValueError(f"on_bad_request must be 'raise' or 'skip', not {on_bad_request!r}")
    tokens, offsets, score_starts, requests, cuts, (encoded_texts, repeated_inputs), bad = made
    if bad and on_bad_request == "raise":
        raise BadRequestsError(
            {index: f"{reason}; it starts with {_start(given[index])}" for index, reason in bad}
        )
    lengths = np.diff(offsets)
    report = TokenReport(
        requests=len(given),
        segments=len(requests),
        tokens=len(tokens),
        texts=texts_each * (len(given) - len(bad)),
        encoded_texts=encoded_texts,
        repeated_inputs=repeated_inputs,
        truncated=_largest(cuts, requests, len(cuts)),
        longest=_largest(lengths, requests, _LISTED),
        skipped=dict(bad),
    )
    skipped = np.array([index for index, _ in bad], np.int64)
    return Segments(tokens, offsets, score_starts, requests, len(given), skipped, report)


def _largest(values: NDArray[np.int64], requests: NDArray[np.int64], most: int) -> dict[int, int]:
    """The requests with the largest positive values, at most ``most`` of them."""
    order = np.argsort(-values, kind="stable")
    largest: dict[int, int] = {}
    for segment in order[: np.count_nonzero(values)]:
        if len(largest) == most:
            break
        largest.setdefault(int(requests[segment]), int(values[segment]))
    return largest


def _start(request: Any) -> str:
    shown = request if isinstance(request, str) else repr(request)
    return repr(shown[:_SHOWN]) if isinstance(request, str) else shown[:_SHOWN]
