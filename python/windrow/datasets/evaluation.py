"""Turns requests into batches: the pipeline of xlstm-jax, and a dataset with all options of a plan."""

import logging
import os
from typing import Any

from windrow import planning
from windrow.admission import admit_count
from windrow.datasets.planned import HostBatchDataset, IndexedBatchDataset
from windrow.datasets.reading import ReadAhead
from windrow.datasets.requests import Requests, all_texts, segments_of, sequences_apart, sequences_of
from windrow.sharding import HostShare, Mesh, MultiHostDataLoadIterator, RowSharding
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import Tokenizer, load_tokenizer
from windrow.tokens.segments import BadRequest

LOGGER = logging.getLogger("windrow.lmeval_pipeline")


def lmeval_preprocessing_pipeline(
    dataloading_host_index: int,
    dataloading_host_count: int,
    global_mesh: Mesh,
    dataset: Requests,
    global_batch_size: int,
    tokenizer_path: str,
    hf_access_token: str | None = None,
    tokenizer_cache_dir: str | None = None,
    eos_token_id: int | None = None,
    bos_token_id: int | None = None,
    worker_count: int = 1,
    worker_buffer_size: int = 1,
    padding_multiple: int = 128,
    use_thread_prefetch: bool = False,
) -> MultiHostDataLoadIterator:
    """Batches of log-likelihood requests of either type, for models without a length limit.

    Each request becomes one sequence: the BOS token (else EOS), the prefix and the text. Prefix and text are
    encoded separately, without the tokenizer's own special tokens. The model sees all tokens of a sequence
    but the last; ``targets_segmentation`` is 1 where a token of the text is predicted, so the prefix is not
    scored. Sequences are sorted across all hosts, longest first, and each batch is padded to a multiple; only
    the last one has rows of padding. Every host makes the same plan from the same requests, so all hosts have
    the same number of batches with the same shapes.

    Args:
        dataloading_host_index: This host's index, as ``jax.process_index()``.
        dataloading_host_count: The number of hosts, as ``jax.process_count()``.
        global_mesh: The mesh; rows are split over all its axes. If all its devices
            belong to this process, batches hold only this host's rows.
        dataset: All requests, the same on every host, as anything with a length and ``__getitem__``. Requests
            are ``Instance``s, of which the first two arguments are used, or dictionaries with either ``req``,
            or ``prefix`` and ``text``, and with ``idx`` if it is not the position.
        global_batch_size: Rows of a batch over all hosts.
        tokenizer_path: A ``tokenizer.json``, a directory that contains one, or a name on the Hugging Face
            Hub.
        hf_access_token: The access token for the Hub.
        tokenizer_cache_dir: Where files from the Hub are cached.
        eos_token_id: The EOS token, for a tokenizer without one.
        bos_token_id: The BOS token, for a tokenizer without one.
        worker_count: The number of workers that prepare batches ahead of time; with 0, each batch is made
            when it is requested.
        worker_buffer_size: The number of finished batches that each worker buffers.
        padding_multiple: Padded lengths are multiples of this.
        use_thread_prefetch: Workers are threads instead of processes.

    Returns:
        An iterator over global `LLMIndexedBatch`es, ``int32[global_batch_size, length]``; ``document_idx`` is
        ``idx`` plus 1. Without requests, the iterator is empty.

    Raises:
        ValueError: ``dataset`` is infinite; ``global_batch_size`` is not divisible by the number of hosts or
            devices; the tokenizer has neither BOS nor EOS, and neither is given; a number is out of range; a
            request generates text.
        IndexError: There is no such host.
        KeyError: A request lacks its texts.
        TypeError: ``dataset`` is not a sequence (for example, it is a generator or a ``DataLoader``); or a
            request, or one of its texts, has the wrong type.
    """
    read_ahead = ReadAhead(worker_count, worker_buffer_size, use_thread_prefetch)
    global_batch_size = admit_count("global_batch_size", global_batch_size)
    share = HostShare.on_mesh(global_mesh, dataloading_host_index, dataloading_host_count)
    _check_division(global_batch_size, dataloading_host_count, global_mesh, share)
    tokenizer = load_tokenizer(tokenizer_path, hf_access_token=hf_access_token, cache_dir=tokenizer_cache_dir)
    first_token = _first_token(tokenizer, bos_token_id, eos_token_id)
    texts = all_texts("dataset", dataset, most=None)
    sequences = sequences_apart(tokenizer, texts, first_token)
    plan = planning.Plan(
        sequences.lengths(), batch_size=global_batch_size, max_shapes=None, padding_multiple=padding_multiple
    )
    LOGGER.info("%s", plan)
    batches = IndexedBatchDataset(plan, sequences, share)
    return MultiHostDataLoadIterator(batches, global_mesh, dataset_size=len(texts), read=read_ahead)


def evaluation_dataset(
    requests: Requests,
    tokenizer: Tokenizer | str | os.PathLike[str],
    *,
    max_length: int | None = None,
    host_index: int = 0,
    host_count: int = 1,
    row_multiple: int | None = None,
    on_bad_request: BadRequest = "raise",
    **policy: Any,
) -> HostBatchDataset:
    """Makes a Grain ``MapDataset`` of planned host batches from requests.

    Requests become segments as in lm-eval's own backend, and a `BatchPolicy` determines how they are batched.
    Every host makes the same plan and fills its own rows. The dataset can be sliced, mapped, repeated, read
    by worker processes and checkpointed like Grain's own datasets.

    Args:
        requests: All requests, the same on every host, in the forms that
            `lmeval_preprocessing_pipeline` takes; all of one type, and with at most
            two arguments.
        tokenizer: A tokenizer, or anything `load_tokenizer` takes.
        max_length: The maximum input length in tokens; ``None`` for no limit.
        host_index: This host's index.
        host_count: The number of hosts; each holds an equal block of rows.
        row_multiple: The number of groups, one per device, that the rows of a batch are split into; a
            multiple of ``host_count``, which is the default.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip requests that cannot be scored, with a warning.
        policy: The fields of `BatchPolicy`: ``batch_size`` or ``tokens_per_batch``, ``max_shapes``,
            ``padding_multiple``, ``share``, ``pack``. There is no model to check here, so by default equal
            inputs are shared and rows are not packed. With ``share="trees"``, rows hold prefix trees, and
            batches have ``reach``.

    Returns:
        A dataset of `HostBatch`; its plan is ``plan``, and ``read_request`` is a request's ``idx``.

    Raises:
        ValueError: ``requests`` is empty, infinite, or of several types; a request, ``row_multiple`` or the
            policy is invalid.
        IndexError: There is no such host.
        KeyError: A request lacks its texts.
        TypeError: ``requests`` is not a sequence (for example, it is a generator or a ``DataLoader``); or a
            request, or an argument, has the wrong type.
    """
    batch_policy = BatchPolicy(**policy)
    share = HostShare.contiguous(host_index, host_count)
    groups = admit_count("row_multiple", host_count if row_multiple is None else row_multiple)
    if groups % host_count:
        raise ValueError(f"row_multiple is {groups}; it must be a multiple of host_count, {host_count}")
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = load_tokenizer(tokenizer)
    if not (texts := all_texts("requests", requests)):
        raise ValueError("requests is empty; give at least one request")
    segments = segments_of(tokenizer, texts, max_length, on_bad_request)
    plan = batch_policy.plan(segments, groups)
    LOGGER.info("%s", plan)
    return HostBatchDataset(plan, sequences_of(segments, texts), share, groups)


def _first_token(tokenizer: Tokenizer, bos_token_id: int | None, eos_token_id: int | None) -> int:
    """The first token of every sequence."""
    roles = (("bos", tokenizer.bos_token_id, bos_token_id), ("eos", tokenizer.eos_token_id, eos_token_id))
    for role, own, given in roles:
        if own is not None and given is not None and own != given:
            LOGGER.warning("%s_token_id is %d; the tokenizer's own, %d, is used", role, given, own)
    tokens = [given if own is None else own for _, own, given in roles]
    first = next((token for token in tokens if token is not None), None)
    if first is None:
        raise ValueError(
            f"tokenizer {tokenizer.name!r} has neither a BOS nor an EOS token, and every sequence begins "
            "with one of them; give bos_token_id or eos_token_id"
        )
    return admit_count("bos_token_id" if tokens[0] == first else "eos_token_id", first, least=0)


def _check_division(global_batch_size: int, host_count: int, mesh: Mesh, share: HostShare) -> None:
    """Rejects a batch that hosts and devices cannot split evenly."""
    if global_batch_size % host_count:
        raise ValueError(
            f"global_batch_size is {global_batch_size}, which is not divisible by {host_count} hosts; "
            "use a multiple of dataloading_host_count"
        )
    held = len(HostShare.of_sharding(RowSharding.over(mesh).by_rows).blocks)
    devices = held * share.block_count // len(share.blocks)
    if global_batch_size % devices:
        raise ValueError(
            f"global_batch_size is {global_batch_size}, which is not divisible by the {devices} devices of "
            f"all hosts; use a multiple of {devices}"
        )
