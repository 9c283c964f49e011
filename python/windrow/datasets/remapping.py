"""Reorders a dataset so that each host's contiguous slice, when batched, is its part of global batches."""

from typing import Any, SupportsIndex

import grain

from windrow import planning
from windrow.admission import admit_count
from windrow.datasets.indexing import admit_dataset, split_index
from windrow.datasets.shared import SharedArray


class MultihostSortedRemapDataset(grain.MapDataset):
    """A sorted dataset, reordered so that neighbors stay in the same global batch after hosts slice it.

    Each host takes one contiguous slice of a dataset. From a sorted dataset, one
    host would get the shortest elements and another the longest. After this
    reordering, the hosts' batches side by side are the batches of the sorted
    dataset:

    ```text
    sorted dataset              [1 2 3 4 5 6 7 8], global batches of 4, two hosts
    reordered                   [1 2 5 6 3 4 7 8]
    hosts' slices, batched      [[1 2] [5 6]]  [[3 4] [7 8]]
    global batches              [1 2 3 4]  [5 6 7 8]
    ```

    Each epoch is reordered separately. The order, ``int64[n]``, is computed up front.

    Args:
        dataset: The (sorted) dataset; its length must be a multiple of
            ``global_batch_size``, which `PadBatchDataset` ensures.
        global_batch_size: The number of rows of a batch, over all hosts.
        dataloader_host_count: The number of hosts that a global batch is split over.

    Raises:
        TypeError: ``dataset`` is not a ``MapDataset``.
        ValueError: ``dataset`` is infinite, its length is not a multiple of the global
            batch size, or that is not a multiple of the number of hosts.

    >>> list(MultihostSortedRemapDataset(
    ...     grain.MapDataset.source([1, 2, 3, 4, 5, 6, 7, 8]), global_batch_size=4, dataloader_host_count=2))
    [1, 2, 5, 6, 3, 4, 7, 8]
    """

    def __init__(self, dataset: grain.MapDataset, global_batch_size: int, dataloader_host_count: int) -> None:
        super().__init__(admit_dataset(dataset, "MultihostSortedRemapDataset"))
        self.dataset = dataset
        self.global_batch_size = admit_count("global_batch_size", global_batch_size)
        self.dataloader_host_count = admit_count("dataloader_host_count", dataloader_host_count)
        size = len(dataset)
        if global_batch_size % dataloader_host_count:
            raise ValueError(
                f"global_batch_size is {global_batch_size}, which is not divisible by "
                f"{dataloader_host_count} hosts; use a multiple of dataloader_host_count"
            )
        if size % global_batch_size:
            raise ValueError(
                f"dataset has {size} elements, which is not a multiple of the global batch size "
                f"{global_batch_size}; fill the last batch with PadBatchDataset first"
            )
        self._order = SharedArray(planning.multihost_remap(size, global_batch_size, dataloader_host_count))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        size = len(self)
        epoch, position = split_index(index, size, str(self))
        if len(self._order.array) != size:
            raise ValueError(
                f"dataset now has {size} elements, but had {len(self._order.array)} when reordered"
            )
        return self.dataset[epoch * size + int(self._order.array[position])]

    def __str__(self) -> str:
        return (
            f"MultihostSortedRemapDataset(global_batch_size={self.global_batch_size}, "
            f"dataloader_host_count={self.dataloader_host_count})"
        )

    __repr__ = __str__
