"""Grain datasets that turn requests into host batches."""

from windrow.datasets.evaluation import LOGGER as LOGGER
from windrow.datasets.evaluation import evaluation_dataset as evaluation_dataset
from windrow.datasets.evaluation import lmeval_preprocessing_pipeline as lmeval_preprocessing_pipeline
from windrow.datasets.padding import PadBatchDataset as PadBatchDataset
from windrow.datasets.padding import PadSequenceInBatchDataset as PadSequenceInBatchDataset
from windrow.datasets.padding import _pad_batch_multiple as _pad_batch_multiple
from windrow.datasets.padding import empty_llm_indexed_sample as empty_llm_indexed_sample
from windrow.datasets.planned import HostBatchDataset as HostBatchDataset
from windrow.datasets.planned import IndexedBatchDataset as IndexedBatchDataset
from windrow.datasets.planned import PlannedDataset as PlannedDataset
from windrow.datasets.planned import Sequences as Sequences
from windrow.datasets.reading import ReadAhead as ReadAhead
from windrow.datasets.reading import array_records as array_records
from windrow.datasets.remapping import MultihostSortedRemapDataset as MultihostSortedRemapDataset
from windrow.datasets.sorting import SortedDataset as SortedDataset
from windrow.datasets.sorting import token_length as token_length
from windrow.datasets.streaming import StreamedBatchDataset as StreamedBatchDataset
from windrow.datasets.streaming import evaluation_stream as evaluation_stream

__all__ = [
    "LOGGER",
    "HostBatchDataset",
    "IndexedBatchDataset",
    "MultihostSortedRemapDataset",
    "PadBatchDataset",
    "PadSequenceInBatchDataset",
    "PlannedDataset",
    "ReadAhead",
    "Sequences",
    "SortedDataset",
    "StreamedBatchDataset",
    "_pad_batch_multiple",
    "array_records",
    "empty_llm_indexed_sample",
    "evaluation_dataset",
    "evaluation_stream",
    "lmeval_preprocessing_pipeline",
    "token_length",
]
