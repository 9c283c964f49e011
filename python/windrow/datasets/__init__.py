"""Grain datasets from requests to host batches."""

from windrow.datasets.padding import PadBatchDataset as PadBatchDataset
from windrow.datasets.padding import PadSequenceInBatchDataset as PadSequenceInBatchDataset
from windrow.datasets.padding import _pad_batch_multiple as _pad_batch_multiple
from windrow.datasets.padding import empty_llm_indexed_sample as empty_llm_indexed_sample
from windrow.datasets.remapping import MultihostSortedRemapDataset as MultihostSortedRemapDataset
from windrow.datasets.sorting import SortedDataset as SortedDataset
from windrow.datasets.sorting import token_length as token_length
