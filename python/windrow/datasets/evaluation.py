"""From requests to batches: the reference's pipeline, and the same flow with all that a plan can do."""

import logging
import os
from typing import Any

from windrow import planning
from windrow.datasets.indexing import admit_count
from windrow.datasets.planned import HostBatchDataset, IndexedBatchDataset
from windrow.datasets.reading import ReadAhead
from windrow.datasets.requests import Requests, all_texts, segments_of, sequences_apart, sequences_of
from windrow.policy import BatchPolicy
from windrow.sharding import HostShare, Mesh, MultiHostDataLoadIterator, RowSharding
from windrow.tokens import Tokenizer, load_tokenizer

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
    """Batches of log-likelihood requests, of either type, for models that take sequences of any length.

    Each request becomes one sequence: the BOS token (else EOS), the prefix and
    the text, each encoded by itself and without further special tokens. The
    model sees all of it but the last token; ``targets_segmentation`` is 1 where
    the text is predicted, so that the prefix is not scored. Sequences are sorted
    over all hosts, longest first; each batch is padded to a multiple, and only
    the last one has rows of padding. Every host makes the same plan from the
    same requests and gets as many batches, of the same shapes, as all others.

    Args:
        dataloading_host_index: Which host this is, as ``jax.process_index()``.
        dataloading_host_count: How many there are, as ``jax.process_count()``.
        global_mesh: The mesh; rows are split over all its axes. If it lies in
            this process alone, batches are this host's rows only.
        dataset: All requests, the same on every host: ``Instance``s, or
            dictionaries of ``req`` or of ``prefix`` and ``text``, with an ``idx`` if it
            is not the position. Anything with a length and ``__getitem__``.
        global_batch_size: Rows of a batch over all hosts.
        tokenizer_path: A ``tokenizer.json``, a directory with one, or a name on
            the hub.
        hf_access_token: The access token for the hub.
        tokenizer_cache_dir: Where files from the hub are kept.
        eos_token_id: The EOS token of a tokenizer that names none itself.
        bos_token_id: The BOS token of a tokenizer that names none itself.
        worker_count: How many workers make batches ahead; 0 makes each when it
            is asked for.
        worker_buffer_size: How many finished batches each worker keeps.
        padding_multiple: Padded lengths are multiples of this.
        use_thread_prefetch: Workers are threads instead of processes.

    Returns:
        An iterator over global `LLMIndexedBatch`es, ``int32[global_batch_size, length]``;
        ``document_idx`` is ``idx`` plus 1.

    Raises:
        ValueError: ``dataset`` is empty; the hosts or the mesh do not divide
            ``global_batch_size``; the tokenizer has neither BOS nor EOS and none
            is given; a number is out of range; a request generates text.
        IndexError: There is no such host.
        KeyError: A request lacks its texts.
        TypeError: A request, or one of its texts, is something else.
    """
    read_ahead = ReadAhead(worker_count, worker_buffer_size, use_thread_prefetch)
    global_batch_size = admit_count("global_batch_size", global_batch_size)
    share = HostShare.on_mesh(global_mesh, dataloading_host_index, dataloading_host_count)
    _check_division(global_batch_size, dataloading_host_count, global_mesh, share)
    tokenizer = load_tokenizer(tokenizer_path, hf_access_token=hf_access_token, cache_dir=tokenizer_cache_dir)
    first_token = _first_token(tokenizer, bos_token_id, eos_token_id)
    texts = all_texts(dataset, most=None)
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
    **policy: Any,
) -> HostBatchDataset:
    """Requests as a Grain ``MapDataset`` of planned host batches.

    Requests become segments exactly as lm-eval's own backend makes them, and
    batches as `BatchPolicy` says. Every host makes the same plan and collates
    its own rows. The dataset can be sliced, mapped, repeated, read by worker
    processes and checkpointed as Grain's own.

    Args:
        requests: All requests, the same on every host, in the forms that
            `lmeval_preprocessing_pipeline` takes; all of one type.
        tokenizer: A tokenizer, or what `load_tokenizer` takes.
        max_length: The most tokens the model can see at once; ``None`` for no
            limit.
        host_index: Which host this is.
        host_count: How many hosts there are; each holds an equal run of rows.
        row_multiple: Into how many groups, one for each device, the rows of a
            batch are split; a multiple of ``host_count``, which it is by default.
        policy: The fields of `BatchPolicy`: ``batch_size`` or
            ``tokens_per_batch``, ``max_shapes``, ``padding_multiple``, ``share``,
            ``pack``.

    Returns:
        A dataset of `HostBatch`, with the plan as ``plan``; ``read_request``
        counts requests as their ``idx`` does.

    Raises:
        ValueError: ``requests`` is empty or of several types; something is wrong
            with a request; ``row_multiple`` or the policy cannot be followed.
        IndexError: There is no such host.
        KeyError: A request lacks its texts.
        TypeError: A request, or an argument, is something else.
    """
    batch_policy = BatchPolicy(**policy)
    share = HostShare.contiguous(host_index, host_count)
    groups = admit_count("row_multiple", host_count if row_multiple is None else row_multiple)
    if groups % host_count:
        raise ValueError(f"row_multiple is {groups}; it must be a multiple of host_count, {host_count}")
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = load_tokenizer(tokenizer)
    if not (texts := all_texts(requests)):
        raise ValueError("dataset is empty; give it at least one request")
    segments = segments_of(tokenizer, texts, max_length)
    plan = batch_policy.plan(segments, groups)
    LOGGER.info("%s", plan)
    return HostBatchDataset(plan, sequences_of(segments, texts), share, groups)


def _first_token(tokenizer: Tokenizer, bos_token_id: int | None, eos_token_id: int | None) -> int:
    """The token that every sequence begins with."""
    roles = (("bos", tokenizer.bos_token_id, bos_token_id), ("eos", tokenizer.eos_token_id, eos_token_id))
    for role, own, given in roles:
        if own is not None and given is not None and own != given:
            LOGGER.warning("%s_token_id is %d; the tokenizer's own, %d, is used", role, given, own)
    tokens = [given if own is None else own for _, own, given in roles]
    first = next((token for token in tokens if token is not None), None)
    if first is None:
        raise ValueError(
            f"tokenizer {tokenizer.name!r} names neither a BOS nor an EOS token, one of which begins every "
            "sequence; give bos_token_id or eos_token_id"
        )
    return admit_count("bos_token_id" if tokens[0] == first else "eos_token_id", first, least=0)


def _check_division(global_batch_size: int, host_count: int, mesh: Mesh, share: HostShare) -> None:
    """Refuses a batch that hosts and their devices cannot split evenly."""
    if global_batch_size % host_count:
        raise ValueError(
            f"global_batch_size is {global_batch_size}, which {host_count} hosts do not divide; "
            "give a multiple of dataloading_host_count"
        )
    held = len(HostShare.of_sharding(RowSharding.over(mesh).by_rows).blocks)
    devices = held * share.block_count // len(share.blocks)
    if global_batch_size % devices:
        raise ValueError(
            f"global_batch_size is {global_batch_size}, which all hosts' {devices} devices do not divide; "
            f"give a multiple of {devices}"
        )
