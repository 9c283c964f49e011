"""The API of ``xlstm_jax.dataset.lmeval_pipeline``, the pipeline that windrow grew out of.

Requests are turned into prefix and text (`ParseLMEval`), then into tokens, then into batches. All names are
defined in `windrow.transforms`, `windrow.datasets`, `windrow.batch` and `windrow.sharding`, and only
re-exported here.
"""

from windrow.batch import LLMIndexedBatch as LLMIndexedBatch
from windrow.datasets import LOGGER as LOGGER
from windrow.datasets import MultihostSortedRemapDataset as MultihostSortedRemapDataset
from windrow.datasets import PadBatchDataset as PadBatchDataset
from windrow.datasets import PadSequenceInBatchDataset as PadSequenceInBatchDataset
from windrow.datasets import SortedDataset as SortedDataset
from windrow.datasets import _pad_batch_multiple as _pad_batch_multiple
from windrow.datasets import empty_llm_indexed_sample as empty_llm_indexed_sample
from windrow.datasets import lmeval_preprocessing_pipeline as lmeval_preprocessing_pipeline
from windrow.datasets import token_length as token_length
from windrow.sharding import MultiHostDataLoadIterator as MultiHostDataLoadIterator
from windrow.transforms import CompleteLLMIndexedBatch as CompleteLLMIndexedBatch
from windrow.transforms import ParseLMEval as ParseLMEval

__all__ = [
    "LOGGER",
    "CompleteLLMIndexedBatch",
    "LLMIndexedBatch",
    "MultiHostDataLoadIterator",
    "MultihostSortedRemapDataset",
    "PadBatchDataset",
    "PadSequenceInBatchDataset",
    "ParseLMEval",
    "SortedDataset",
    "_pad_batch_multiple",
    "empty_llm_indexed_sample",
    "lmeval_preprocessing_pipeline",
    "token_length",
]
