"""Scores texts or pairs without lm_eval, and returns arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

from windrow.admission import admit_requests
from windrow.bad_requests import BadRequestsError
from windrow.model import LanguageModel, admit_model
from windrow.scoring.agreement import check_same_call, check_same_tokens
from windrow.scoring.clock import Clock
from windrow.scoring.contract import known_tokens
from windrow.scoring.scorer import NOT_A_NUMBER, Scorer
from windrow.scoring.scores import Scores
from windrow.sharding import RowSharding
from windrow.sizing.policy import BatchPolicy, admit_policy
from windrow.tokens import Segments, load_tokenizer, loglikelihood_segments, rolling_segments


@dataclass(frozen=True)
class CorpusScores:
    """The scores of each request.

    Attributes:
        log_likelihoods: ``float64[n]``, the sum of the scored tokens'
            log-probabilities in nats; minus infinity for skipped requests.
        token_counts: ``int64[n]``, the number of scored tokens.
        greedy: ``bool[n]``, whether greedy decoding would produce every scored token.
        token_logprobs: ``float32[m]``, each scored token's log-probability, request by request; NaN if the
            model returned NaN.
        offsets: ``int64[n + 1]``, where the tokens of each request begin in ``token_logprobs``.
        skipped: ``int64[k]``, ascending: the requests that could not be scored, and those whose
            log-likelihood is NaN.
    """

    log_likelihoods: NDArray[np.float64]
    token_counts: NDArray[np.int64]
    greedy: NDArray[np.bool_]
    token_logprobs: NDArray[np.float32]
    offsets: NDArray[np.int64]
    skipped: NDArray[np.int64]


def score(
    model: LanguageModel,
    tokenizer: Any,
    requests: Sequence[str] | Sequence[tuple[str, str]],
    *,
    policy: BatchPolicy | None = None,
    sharding: NamedSharding | Mesh | None = None,
    on_bad_request: str = "raise",
    chunk_length: int | None = None,
) -> CorpusScores:
    """Scores texts, or continuations of contexts, as :class:`~windrow.JaxLM` does.

    Args:
        model: The model.
        tokenizer: Anything that :func:`windrow.tokens.load_tokenizer` takes.
        requests: Texts, which are scored whole (in disjoint windows if longer than the model's limit), or
            pairs ``(context, continuation)``, of which the continuation is scored.
        policy: How requests are batched; ``BatchPolicy(tokens_per_batch="auto")`` sizes batches to fit device
            memory.
        sharding: A sharding for ``[rows, length]``, or a mesh; rows are then split over all of its axes.
            Default: the mesh of ``jax.set_mesh``, else the parameters' mesh, else all devices.
        on_bad_request: ``"raise"``, or ``"skip"`` to give a request that cannot be scored minus infinity, and
            list it in ``skipped``.
        chunk_length: See :class:`~windrow.JaxLM`.

    Raises:
        TypeError: The requests are a single string, not a sequence, or a mix of texts and pairs, or another
            argument has the wrong type.
        ValueError: A request cannot be scored, or its log-likelihood is NaN; the message names it. Or
            hosts were given different arguments.

    >>> import jax.numpy as jnp
    >>> class Bytes:
    ...     encode = staticmethod(lambda text: list(text.encode()))
    ...     decode = staticmethod(lambda tokens: bytes(tokens).decode())
    >>> uniform = LanguageModel(jnp.zeros(256), lambda p, tokens, *_: jnp.zeros((*tokens.shape, 256)))
    >>> scores = score(uniform, Bytes(), [("a", "b"), ("a", "cd")])
    >>> scores.log_likelihoods.round(2), scores.token_counts
    (array([ -5.55, -11.09]), array([1, 2]))
    """
    admit_model(model)
    policy = admit_policy(policy)
    tokenizer = load_tokenizer(tokenizer)
    _admit(requests)
    rows = RowSharding.over(sharding, model.params)
    arguments = {
        "max_length": model.max_length,
        "policy": policy,
        "on_bad_request": on_bad_request,
        "chunk_length": chunk_length,
    }
    check_same_call("windrow.score", requests, tokenizer, rows, arguments)
    segments = _segments(tokenizer, requests, model.max_length, on_bad_request)
    scorer = Scorer(model, rows, Clock(), chunk_length, policy)
    segments = known_tokens(segments, scorer.vocabulary, on_bad_request)
    check_same_tokens("windrow.score", segments, rows)
    with scorer.one_run():
        scores = by_request(segments, scorer.run(scorer.plan(policy, segments), segments))
    failed = np.flatnonzero(np.isnan(scores.log_likelihoods))
    if len(failed) and on_bad_request != "skip":
        raise BadRequestsError(dict.fromkeys(failed.tolist(), NOT_A_NUMBER))
    skipped = np.union1d(segments.skipped, failed)
    scores.log_likelihoods[skipped] = -np.inf
    scores.greedy[skipped] = False
    return replace(scores, skipped=skipped)


def by_request(segments: Segments, scores: Scores) -> CorpusScores:
    """The scores of segments, added up by request; NaN is kept, and ``skipped`` is that of the segments."""
    count = segments.request_count
    counts, totals, greedy = np.zeros(count, np.int64), np.zeros(count), np.ones(count, np.bool_)
    np.add.at(counts, segments.requests, np.diff(scores.offsets))
    np.add.at(totals, segments.requests, scores.sums())
    np.logical_and.at(greedy, segments.requests, scores.greedy())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return CorpusScores(totals, counts, greedy, scores.token_logprobs, offsets, segments.skipped)


def _admit(requests: Any) -> None:
    if isinstance(requests, str):
        raise TypeError("requests must be a sequence of texts or pairs, not one string; give [text]")
    admit_requests("requests", requests)


def _segments(
    tokenizer: Any,
    requests: Sequence[str] | Sequence[tuple[str, str]],
    max_length: int | None,
    on_bad_request: str,
) -> Segments:
    options: dict[str, Any] = {"max_length": max_length, "on_bad_request": on_bad_request}
    texts = [request for request in requests if isinstance(request, str)]
    pairs = [request for request in requests if not isinstance(request, str)]
    if texts and pairs:
        raise TypeError("requests must be all texts or all (context, continuation) pairs, not a mix")
    if texts:
        return rolling_segments(tokenizer, texts, **options)
    return loglikelihood_segments(tokenizer, pairs, **options)
