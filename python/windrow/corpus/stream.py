"""Scores a corpus of any size: reads windows of documents, writes a shard of scores for each, and resumes."""

import json
import os
from contextlib import closing
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.admission import admit_whole
from windrow.bad_requests import BadRequestsError
from windrow.corpus.documents import Columns
from windrow.corpus.fixed import FixedShapes, limit_of
from windrow.corpus.folder import Folder, ended_lots
from windrow.corpus.progress import CorpusReport, Progress, read_report
from windrow.corpus.reader import encoded_windows
from windrow.corpus.shards import ShardFormat
from windrow.corpus.source import Share, Source, source_of
from windrow.corpus.windows import (
    Preparation,
    Reading,
    Window,
    documents_of,
    of_known_tokens,
    one_ahead,
)
from windrow.fingerprint import Fingerprint
from windrow.model import LanguageModel, admit_model
from windrow.scoring import NOT_A_NUMBER, Clock, CorpusScores, Scorer, by_request
from windrow.sharding import (
    HostsDifferError,
    RowSharding,
    check_agreement,
    check_first_host,
    gather_from_hosts,
    host_count,
    host_number,
    own_mesh,
    share_from_first_host,
)
from windrow.sizing.policy import BatchPolicy, admit_policy
from windrow.tokens import Segments, Tokenizer, load_tokenizer

SAMPLE = 4096
"""The maximum number of documents that determine the shapes of all batches; at most one window."""

WINDOW = 10_000
"""The default number of documents in a window."""

LOOK_SECONDS = 1.0
"""The interval at which a host that is done checks whether the others are, in seconds."""

SEEN_SECONDS = 60.0
"""How long a file may take to appear on another host: network file systems remember that it was missing."""


@dataclass(frozen=True)
class _Run:
    """The constants of a run."""

    source: Source
    folder: Folder
    columns: Columns
    tokenizer: Tokenizer | None
    form: ShardFormat
    window: int
    on_bad_request: str
    share: Share


def score_stream(
    model: LanguageModel,
    tokenizer: Any,
    requests: Any,
    output: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    context_column: str | None = None,
    continuation_column: str | None = None,
    tokens_column: str | None = None,
    id_column: str | None = None,
    window: int = WINDOW,
    format: str = "parquet",
    token_logprobs: bool = False,
    worst_tokens: int = 0,
    policy: BatchPolicy | None = None,
    sharding: Any = None,
    on_bad_request: str = "skip",
    chunk_length: int | None = None,
    max_length: int | None = None,
    progress: bool = True,
) -> CorpusReport:
    """Scores a corpus of any size and writes the scores to files; the same call again resumes.

    Documents are read, encoded and planned a window at a time, while the previous window runs. The first
    documents determine the shapes of all batches, so nothing is compiled after the first window. The scores
    of each window go into a file of their own in ``output/scores``, a *shard*, which is written under a
    temporary name and renamed. A killed run loses at most the window in progress. The same call resumes with
    the windows that are not done yet, on any number of devices and processes.

    A shard has a row for each document, in input order: ``id``; ``log_likelihood`` in nats, the sum over the
    scored tokens; ``tokens``, the number of scored tokens; ``bytes`` and ``words`` of the scored text,
    counted as in lm_eval; ``greedy``, whether greedy decoding would produce every scored token. A document
    that cannot be scored has a ``log_likelihood`` of null; the manifest says why.

    Every process must make the same call. Each scores its own files or rows on its own devices. If the
    sharding spans the devices of several processes, they score each window together.

    Args:
        model: The model.
        tokenizer: Anything that :func:`windrow.tokens.load_tokenizer` takes; may be ``None`` with
            ``tokens_column``.
        requests: A path, glob or folder, or :class:`~windrow.corpus.Paths` of several: JSON lines (also
            gzip or zstd), Parquet, ArrayRecord, a folder of ``datasets.save_to_disk``, or ``"-"`` for JSON
            lines on standard input. Or documents: a sequence, a data source, a Grain dataset or another
            iterable of texts, pairs ``(context, continuation)``, arrays of tokens, or mappings of columns.
        output: The folder for the scores: a new one, or that of a run to resume.
        text_column: The column of texts, scored whole (in disjoint windows if they are longer than the
            model's limit); ``"text"`` unless other columns are given.
        context_column: The column of contexts, with ``continuation_column``.
        continuation_column: The column of continuations, which are scored.
        tokens_column: The column of lists of token ids; the first token of each is context only.
        id_column: The column of ids; by default a document's id is its file and row, ``"a.jsonl:17"``.
        window: The number of documents that are read, planned and written together.
        format: ``"parquet"`` or ``"jsonl"``.
        token_logprobs: Whether to write a column ``token_logprobs``, a list for each document.
        worst_tokens: If above 0, write a column ``worst_tokens`` with this many of each document's least
            likely tokens: their ``position`` among the scored tokens, ``token`` and ``logprob``.
        policy: How requests are batched; see :class:`~windrow.BatchPolicy`.
        sharding: A sharding for ``[rows, length]``, or a mesh; rows are then split over all of its axes.
            Default: all devices of each process.
        on_bad_request: ``"skip"``, or ``"raise"`` to stop at a document that cannot be scored.
        chunk_length: See :class:`~windrow.JaxLM`.
        max_length: The maximum input length in tokens, at most the model's own limit. Without a limit, rows
            are twice as long as the longest of the first documents, and longer documents are skipped.
        progress: Whether to show a progress bar on standard error.

    Returns:
        A summary of the folder; see :class:`~windrow.corpus.CorpusReport`.

    Raises:
        TypeError, ValueError: An argument is invalid, a file or column does not exist or cannot be read, a
            shard is damaged, or the folder holds another run; the message says what differs.
        OSError: The folder cannot be written. Windows that are already written are kept.

    >>> windrow.score_stream(model, tokenizer, "corpus/*.jsonl.gz", "scores")  # doctest: +SKIP
    """
    admit_model(model)
    policy = admit_policy(policy)
    columns = Columns(text_column, context_column, continuation_column, tokens_column, id_column)
    form = ShardFormat(format, token_logprobs, worst_tokens)
    window = admit_whole("window", window)
    if on_bad_request not in ("raise", "skip"):
        raise ValueError(f"on_bad_request must be 'raise' or 'skip', not {on_bad_request!r}")
    source = source_of(requests, columns.needed)
    model = _limited(model, max_length)
    rows, share = _placed(model, sharding, source)
    with closing(Folder(output, host_number())) as folder:
        encoder = None if tokenizer is None else load_tokenizer(tokenizer)
        if encoder is None and columns.kind != "tokens":
            raise ValueError(
                f"tokenizer is missing; only tokens_column works without one, not {columns.kind}s"
            )
        run = _Run(source, folder, columns, encoder, form, window, on_bad_request, share)
        scorer = Scorer(model, rows, Clock(), chunk_length, policy)
        prepare = _preparation(run, scorer, policy)
        _begin(run, _settings(run, scorer))
        with closing(Progress(folder.path, host_number(), progress and host_number() == 0)) as bar:
            _score(run, scorer, prepare, bar)
        return _finish(run)


def check_places(requests: Any, output: str | os.PathLike[str]) -> None:
    """Checks that documents can be found and the folder can be written, before a model is loaded.

    Raises:
        OSError, ValueError: See :func:`windrow.score_stream`.
    """
    source_of(requests, [])
    Folder(output, host_number()).close()


def _limited(model: LanguageModel, max_length: int | None) -> LanguageModel:
    if max_length is None:
        return model
    max_length = admit_whole("max_length", max_length, also=", or None")
    if model.max_length is not None and max_length > model.max_length:
        raise ValueError(f"max_length={max_length} exceeds the model's limit of {model.max_length} tokens")
    return replace(model, max_length=max_length)


def _placed(model: LanguageModel, sharding: Any, source: Source) -> tuple[RowSharding, Share]:
    """The sharding of rows, and the windows of this host."""
    if sharding is None and host_count() > 1:
        sharding = own_mesh()
    rows = RowSharding.over(sharding, model.params)
    if rows.is_local and host_count() > 1:
        if source.is_one_time:
            raise ValueError(f"{source.name} can only be read by a single process; use files for several")
        return rows, Share(len(source), host_number(), host_count())
    return rows, Share(len(source))


def _settings(run: _Run, scorer: Scorer) -> Fingerprint:
    """Everything but the input that must be the same when a run resumes."""
    settings = {
        "max_length": str(scorer.model.max_length),
        "columns": json.dumps({name: value for name, value in vars(run.columns).items() if value}),
        "window": str(run.window),
        "format": run.form.kind,
        "token_logprobs": str(run.form.token_logprobs),
        "worst_tokens": str(run.form.worst_tokens),
        "on_bad_request": run.on_bad_request,
    }
    tokens = "" if run.tokenizer is None else run.tokenizer.fingerprint
    return {**scorer.identity, "tokenizer": tokens, **settings}


def _begin(run: _Run, settings: Fingerprint) -> None:
    """Checks that this run may write to the folder; if not, every host raises the same error."""
    inputs = {f"input {name}": identity for name, identity in run.source.identity().items()}
    compared = {name: value for name, value in settings.items() if isinstance(value, str)}
    files = [f"{name}: {identity}" for name, identity in inputs.items()]
    check_agreement(files, compared, "input {}".format, call="windrow.score_stream")
    complaint = run.folder.begin({**settings, **inputs}) if host_number() == 0 else ""
    check_first_host(complaint)
    if host_count() > 1:
        _check_shared(run.folder)


def _check_shared(folder: Folder) -> None:
    """Raises the same error on every host unless all see one folder, where they look for windows."""
    known = str(folder.path), folder.identity()
    place, made = (share_from_first_host(one.encode()).decode() for one in known)
    end = monotonic() + SEEN_SECONDS
    while not (is_same := folder.identity() == made) and monotonic() < end:
        sleep(LOOK_SECONDS)
    others = np.flatnonzero(gather_from_hosts(np.array([is_same], np.uint32))[:, 0] == 0)
    if len(others):
        raise HostsDifferError(
            f"process {', '.join(map(str, others))} cannot see the files that process 0 writes to {place}; "
            "give all processes the same output folder, on a file system that they share"
        )


def _score(run: _Run, scorer: Scorer, prepare: Preparation, bar: Progress) -> None:
    """Scores the windows of this host that are not done yet."""
    records = run.folder.windows()
    own = [record for place, record in records.items() if run.share.has(*place)]
    done = records.keys() - run.folder.check(own)
    ends = ended_lots(records[place] for place in done)
    if len(ends) == len(run.source):
        return
    limit = scorer.model.max_length
    reading = Reading(run.source, run.window, run.share, done, ends, run.columns, run.tokenizer, limit)
    with (
        encoded_windows(reading) as encoded,
        scorer.same_shapes(prepare.fixed.shapes),
        one_ahead(map(prepare, encoded)) as windows,
    ):
        for window in windows:
            scores = scorer.run_parts(window.parts, window.segments)
            bar.add(_written(run, window, by_request(window.segments, scores)), window.part)


def _preparation(run: _Run, scorer: Scorer, policy: BatchPolicy) -> Preparation:
    """How windows are prepared, in shapes determined by a sample.

    Raises:
        ValueError: No document of the sample can be scored.
    """
    limit, placed = scorer.model.max_length, run.source.sample(min(SAMPLE, run.window))
    documents, segments = documents_of(placed, run.columns, run.tokenizer, limit)
    segments = of_known_tokens(documents, segments, scorer.vocabulary)
    if len(documents) and not len(segments):
        first = next(iter(documents.skipped))
        raise ValueError(
            f"none of the first {len(documents):,} documents of {run.source.name} can be scored; "
            f"{documents.ids[first]}: {documents.skipped[first]}"
        )
    tokens = policy.tokens_per_batch
    most = tokens // scorer.sharding.groups if isinstance(tokens, int) else None
    fixed = FixedShapes.chosen(scorer, policy, segments, limit_of(segments, limit, most))
    return Preparation(scorer.vocabulary, fixed)


def _written(run: _Run, window: Window, scores: CorpusScores) -> dict[str, Any]:
    """Writes a window's shard; returns its record.

    Raises:
        BadRequestsError: A document cannot be scored, and ``on_bad_request`` is ``"raise"``.
    """
    documents = window.documents
    for index in np.flatnonzero(np.isnan(scores.log_likelihoods)).tolist():
        documents.skip(index, NOT_A_NUMBER)
    if documents.skipped and run.on_bad_request == "raise":
        raise BadRequestsError(documents.skipped, name=lambda index: f"document {documents.ids[index]}")
    skipped = np.array(sorted(documents.skipped), np.int64)
    scores = replace(scores, skipped=skipped)
    good = np.ones(len(documents), np.bool_)
    good[skipped] = False
    sizes = None if run.columns.kind == "tokens" else (window.byte_counts, window.word_counts)
    lot, number = window.place
    record = {
        "lot": lot,
        "window": number,
        "first": number * run.window,
        "documents": len(documents),
        "is_last": window.is_last,
        "file": f"scores/{lot:05}-{number:06}.{run.form.kind}",
        "tokens": int(scores.token_counts[good].sum()),
        "bytes": int(window.byte_counts[good].sum()),
        "words": int(window.word_counts[good].sum()) if sizes else 0,
        "log_likelihood": float(scores.log_likelihoods[good].sum()),
        "skipped": [{"id": documents.ids[at], "reason": documents.skipped[at]} for at in skipped.tolist()],
    }
    targets = _targets(window.segments) if run.form.worst_tokens else None
    data = run.form.encoded(run.form.columns(documents.ids, scores, targets, sizes))
    return run.folder.add(record, data) if _writes(run) else record


def _targets(segments: Segments) -> NDArray[np.int32]:
    """The scored tokens, in segment order."""
    lengths = np.diff(segments.offsets)
    place = np.arange(len(segments.tokens)) - np.repeat(segments.offsets[:-1], lengths)
    return segments.tokens[place >= np.repeat(segments.score_starts, lengths)]


def _writes(run: _Run) -> bool:
    """Whether this host writes; if all hosts score each window together, only the first one does."""
    return run.share.parts > 1 or host_number() == 0


def _finish(run: _Run) -> CorpusReport:
    """Waits until all hosts have written their windows; the first host then completes the manifest."""
    while _writes(run) and len(ended_lots(run.folder.windows().values())) < len(run.source):
        sleep(LOOK_SECONDS)
    if _writes(run) and host_number() == 0:
        run.folder.finish()
    return read_report(run.folder.path)
