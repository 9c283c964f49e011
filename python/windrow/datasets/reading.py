"""Prepares batches ahead of time: in worker processes, in threads, or not at all."""

from dataclasses import dataclass

import grain
from absl import flags

from windrow.admission import admit_count

_SHARED_MEMORY_BYTES = 1 << 20


@dataclass(frozen=True)
class ReadAhead:
    """Reads batches that workers prepare ahead of time.

    Each worker makes every ``worker_count``-th batch and buffers at most ``worker_buffer_size`` finished
    ones. The order and content of the batches do not depend on these numbers. Processes send arrays of 1 MiB
    and more through shared memory, and smaller ones through a pipe.

    Attributes:
        worker_count: The number of workers; with 0, each batch is made when it is
            requested.
        worker_buffer_size: The number of finished batches that each worker buffers.
        use_thread_prefetch: Workers are threads instead of processes.

    Raises:
        TypeError: A count is not an integer.
        ValueError: ``worker_count`` is below 0, or ``worker_buffer_size`` below 1.
    """

    worker_count: int
    worker_buffer_size: int
    use_thread_prefetch: bool

    def __post_init__(self) -> None:
        admit_count("worker_count", self.worker_count, least=0)
        admit_count("worker_buffer_size", self.worker_buffer_size)

    def __call__(self, batches: grain.MapDataset) -> grain.IterDataset:
        """A Grain dataset that reads ``batches`` in order."""
        # Making a batch takes less time than handing it to one of Grain's reading threads.
        dataset = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        if self.worker_count == 0:
            return dataset
        if self.use_thread_prefetch:
            return grain.experimental.multithread_prefetch(
                dataset, self.worker_count, self.worker_buffer_size
            )
        if not flags.FLAGS.is_parsed():  # Grain's workers read flags that only absl programs parse
            flags.FLAGS.mark_as_parsed()
        options = grain.experimental.DatasetOptions(min_shm_size=_SHARED_MEMORY_BYTES)
        dataset = grain.experimental.WithOptionsIterDataset(dataset, options)
        return dataset.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=self.worker_count, per_worker_buffer_size=self.worker_buffer_size
            )
        )


def array_records(path: str) -> grain.sources.ArrayRecordDataSource:
    """The records of an ArrayRecord file, as bytes, in any order."""
    return grain.sources.ArrayRecordDataSource([path])
