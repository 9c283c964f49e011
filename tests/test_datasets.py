"""Sorting, padding and remapping behave like Grain's own transforms."""

import copy
import gc
import pickle

import cloudpickle
import grain
import numpy as np
import pytest
from grain.experimental import assert_equal_output_after_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from elements import identity, length_of, rows
from trees import pytree_diff
from windrow.datasets import (
    MultihostSortedRemapDataset,
    PadBatchDataset,
    PadSequenceInBatchDataset,
    ReadAhead,
    SortedDataset,
    token_length,
)
from windrow.datasets.shared import INLINE_BYTES, SharedArray

# Each dataset, applied to elements of lengths 5, 2, 9, 2, 7 and 1.
KINDS = {
    "sorted": lambda source: SortedDataset(source, length_of),
    "sorted by keys": lambda source: SortedDataset(source, [3, 1, 2, 1, 9, 0], reverse=True),
    "pad batch": lambda source: PadBatchDataset(source, 4, 0, {"inputs": np.zeros((1, 1), np.int32)}),
    "pad sequence": lambda source: PadSequenceInBatchDataset(source, 4, 4),
    "remap": lambda source: MultihostSortedRemapDataset(source, 6, 3),
}


@pytest.fixture(params=KINDS)
def dataset(request):
    return KINDS[request.param](grain.MapDataset.source(rows([5, 2, 9, 2, 7, 1])))


class TestGrainInterface:
    """Every dataset behaves like ``source.map(identity)``."""

    def test_length_and_elements(self, dataset):
        assert len(list(dataset)) == len(dataset)

    def test_indexes_continue_into_other_epochs(self, dataset):
        size = len(dataset)
        for index in range(size):
            for epoch in (-2, -1, 1, 3):
                assert pytree_diff(dataset[index + epoch * size], dataset[index]) is None

    def test_slices(self, dataset):
        every = list(dataset)
        for cut in [
            slice(1, 4),
            slice(None, None, 2),
            slice(4, None),
            slice(-2, None),
            slice(None, None, -1),
        ]:
            assert pytree_diff(list(dataset[cut]), every[cut]) is None
            assert pytree_diff(list(dataset.slice(cut)), every[cut]) is None
        assert pytree_diff(list(dataset[1:5][1:3]), every[2:4]) is None

    def test_numpy_integers_are_indexes(self, dataset):
        assert pytree_diff(dataset[np.int64(1)], dataset[1]) is None
        with pytest.raises(TypeError):
            dataset["a"]

    def test_repeat(self, dataset):
        assert pytree_diff(list(dataset.repeat(2)), 2 * list(dataset)) is None

    def test_to_iter_dataset(self, dataset):
        for options in (grain.ReadOptions(0, 0), grain.ReadOptions(3, 4), None):
            assert pytree_diff(list(dataset.to_iter_dataset(options)), list(dataset)) is None

    def test_checkpoints(self, dataset):
        assert_equal_output_after_checkpoint(dataset)
        assert_equal_output_after_checkpoint(dataset.to_iter_dataset(grain.ReadOptions(0, 0)))
        assert_equal_output_after_checkpoint(dataset.repeat(2)[1:-1].to_iter_dataset())

    def test_pickles_and_copies(self, dataset):
        every = list(dataset)
        for other in (
            cloudpickle.loads(cloudpickle.dumps(dataset)),
            copy.deepcopy(dataset),
            copy.copy(dataset),
        ):
            assert pytree_diff(list(other), every) is None

    def test_threads(self, dataset):
        ahead = ReadAhead(worker_count=3, worker_buffer_size=2, use_thread_prefetch=True)
        assert pytree_diff(list(ahead(dataset)), list(dataset)) is None

    def test_str(self, dataset):
        assert str(dataset).startswith(type(dataset).__name__ + "(")


def test_worker_processes():
    every = [make(grain.MapDataset.source(rows([5, 2, 9, 2, 7, 1]))) for make in KINDS.values()]
    dataset = grain.MapDataset.concatenate(every)
    iterator = iter(ReadAhead(worker_count=2, worker_buffer_size=1, use_thread_prefetch=False)(dataset))
    assert pytree_diff(list(iterator), list(dataset)) is None
    iterator.close()


@pytest.mark.parametrize(
    "make", [SortedDataset, PadBatchDataset, PadSequenceInBatchDataset, MultihostSortedRemapDataset]
)
def test_only_map_datasets_are_accepted(make):
    arguments = {SortedDataset: (abs,), PadBatchDataset: (1, 1, 0), PadSequenceInBatchDataset: (1,)}
    with pytest.raises(TypeError, match=r"dataset must be a grain.MapDataset, not list; .*MapDataset.source"):
        make([1, 2], *arguments.get(make, (1, 1)))


def test_empty_dataset_has_no_elements():
    empty = grain.MapDataset.source([])
    for dataset in (
        SortedDataset(empty, abs),
        PadBatchDataset(empty, 4, 0, 0),
        PadSequenceInBatchDataset(empty, 2),
        MultihostSortedRemapDataset(empty, 4, 2),
    ):
        assert (len(dataset), list(dataset)) == (0, [])
        with pytest.raises(IndexError, match=r"index 0 is out of range: .* is empty"):
            dataset[0]
    assert list(PadBatchDataset(empty, 4, 5, "x")) == 5 * ["x"]


def test_endless_datasets():
    endless = grain.MapDataset.source(rows([3, 1])).repeat()
    for make in (
        lambda: SortedDataset(endless, length_of),
        lambda: SortedDataset(endless[::2], length_of),
        lambda: PadBatchDataset(endless.batch(8), 2, 0, 0),
        lambda: PadBatchDataset(endless, 2, 0, 0),
        lambda: MultihostSortedRemapDataset(endless, 2, 1),
    ):
        with pytest.raises(ValueError, match=r"dataset is infinite; put .* before .repeat\(\)"):
            make()
    padded = PadSequenceInBatchDataset(endless, 2, 2)
    assert [padded[index]["inputs"].shape[1] for index in (0, 1, 1_000_001)] == [4, 4, 4]


class TestRemap:
    @given(st.integers(1, 16), st.integers(1, 4), st.integers(0, 5))
    def test_batched_host_slices_form_the_global_batches(self, hosts, host_rows, batches):
        size = hosts * host_rows * batches
        source = grain.MapDataset.range(size) if size else grain.MapDataset.source([])
        dataset = MultihostSortedRemapDataset(source, hosts * host_rows, hosts)
        slices = [dataset[host * size // hosts : (host + 1) * size // hosts] for host in range(hosts)]
        per_host = [list(part.batch(host_rows)) if len(part) else [] for part in slices]
        together = [np.concatenate(parts).tolist() for parts in zip(*per_host, strict=True)]
        expected = np.arange(size).reshape(batches, hosts * host_rows).tolist()
        assert together == expected

    @pytest.mark.parametrize(
        ("size", "global_batch_size", "hosts", "message"),
        [
            (8, 4, 3, "global_batch_size is 4, which is not divisible by 3 hosts; use a multiple"),
            (
                7,
                4,
                2,
                "dataset has 7 elements, which is not a multiple of .* 4; fill the last batch with Pad",
            ),
            (8, 0, 1, "global_batch_size is 0"),
            (8, 4, 0, "dataloader_host_count is 0"),
        ],
    )
    def test_bad_numbers(self, size, global_batch_size, hosts, message):
        with pytest.raises(ValueError, match=message):
            MultihostSortedRemapDataset(grain.MapDataset.range(size), global_batch_size, hosts)


def test_source_that_shrinks():
    """A source shrinks when a worker process takes a sequential slice of it."""
    numbers = [4, 1, 3, 2]
    source = grain.MapDataset.source(numbers)
    ordered, remapped = SortedDataset(source, identity), MultihostSortedRemapDataset(source, 4, 2)
    keyed = SortedDataset(source, [4, 1, 3, 2])
    assert list(ordered) == list(keyed) == [1, 2, 3, 4]
    del numbers[2:]
    assert [ordered[index] for index in range(len(ordered))] == [1, 4]
    with pytest.raises(ValueError, match="dataset now has 2 elements, but had 4 when reordered"):
        remapped[0]
    with pytest.raises(ValueError, match="dataset now has 2 elements, which is not the number of given keys"):
        keyed[0]


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
    st.integers(1, 16),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
)
def test_reference_pipeline_over_many_hosts(lengths, hosts, host_rows, multiple_of, reverse):
    """Sorted, padded, remapped, sliced and padded in batches, the hosts' parts form the global batches."""
    filler = {"inputs": np.zeros((1, 1), np.int32), "idx": np.array([-1], np.int32)}
    ordered = SortedDataset(grain.MapDataset.source(rows(lengths)), token_length, reverse)
    padded = PadBatchDataset(ordered, hosts * host_rows, 0, filler)
    remapped = MultihostSortedRemapDataset(padded, hosts * host_rows, hosts)
    size = len(remapped)
    seen = []
    for host in range(hosts):
        mine = remapped[host * size // hosts : (host + 1) * size // hosts]
        batches = list(PadSequenceInBatchDataset(mine, host_rows, multiple_of).batch(host_rows))
        assert len(batches) == size // (hosts * host_rows)
        seen.append([batch["idx"].ravel().tolist() for batch in batches])
        for batch in batches:
            assert batch["inputs"].shape[2] % multiple_of == 0
    together = [number for parts in zip(*seen, strict=True) for part in parts for number in part]
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=reverse)
    assert together == order + [-1] * (size - len(lengths))


class TestSharedArray:
    def test_large_arrays_pickle_by_name_and_are_freed_with_their_owner(self):
        shared = SharedArray(np.arange(INLINE_BYTES, dtype=np.int64))
        stored = pickle.dumps(shared)
        assert len(stored) < 500
        assert pickle.dumps(shared) == stored
        other = pickle.loads(stored)
        assert np.array_equal(other.array, shared.array)
        assert isinstance(other.array.base, np.memmap) or isinstance(other.array, np.memmap)
        assert pickle.dumps(other) == stored
        del shared
        gc.collect()
        with pytest.raises(FileNotFoundError, match="deleted together with the dataset that was pickled"):
            pickle.loads(stored)

    def test_small_arrays_pickle_their_contents(self):
        stored = pickle.dumps(SharedArray(np.arange(10)))
        assert np.array_equal(pickle.loads(stored).array, np.arange(10))

    def test_arrays_are_read_only_and_not_copied(self):
        values = np.arange(10)
        shared = SharedArray(values)
        assert np.shares_memory(shared.array, values)
        assert copy.deepcopy(shared) is shared
        assert values.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            shared.array[0] = 1
