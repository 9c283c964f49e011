"""Sorting, padding and remapping behave as Grain's own transforms do, and keep their promises."""

import copy
import gc
import pickle
import threading
import weakref

import cloudpickle
import grain
import numpy as np
import pytest
from grain.experimental import assert_equal_output_after_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import pytree_diff

from windrow.datasets import (
    MultihostSortedRemapDataset,
    PadBatchDataset,
    PadSequenceInBatchDataset,
    ReadAhead,
    SortedDataset,
    _pad_batch_multiple,
    empty_llm_indexed_sample,
    token_length,
)
from windrow.datasets.shared import INLINE_BYTES, SharedArray


def rows(lengths):
    """Elements with sequences of these lengths; each is recognised by its number."""
    return [
        {"inputs": np.full((1, length), number + 1, np.int32), "idx": np.array([number], np.int32)}
        for number, length in enumerate(lengths)
    ]


def identity(element):
    return element


def length_of(element):
    return element["inputs"].shape[1]


class Counting:
    """A source that counts how often each element is read."""

    def __init__(self, elements):
        self.elements = elements
        self.reads = [0] * len(elements)
        self.lock = threading.Lock()

    def __len__(self):
        return len(self.elements)

    def __getitem__(self, index):
        with self.lock:
            self.reads[index] += 1
        return self.elements[index]


# Each of the datasets upon elements of lengths 5, 2, 9, 2, 7, 1.
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


class TestLikeGrainsOwn:
    """What holds for ``source.map(identity)`` holds for every dataset here."""

    def test_length_and_elements(self, dataset):
        assert len(list(dataset)) == len(dataset)

    def test_indexes_go_on_into_other_epochs(self, dataset):
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

    def test_says_what_it_is(self, dataset):
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
def test_only_map_datasets_are_taken(make):
    arguments = {SortedDataset: (abs,), PadBatchDataset: (1, 1, 0), PadSequenceInBatchDataset: (1,)}
    with pytest.raises(TypeError, match=r"dataset must be a grain.MapDataset, not list; .*MapDataset.source"):
        make([1, 2], *arguments.get(make, (1, 1)))


def test_an_empty_dataset_has_no_elements():
    empty = grain.MapDataset.source([])
    for dataset in (
        SortedDataset(empty, abs),
        PadBatchDataset(empty, 4, 0, 0),
        PadSequenceInBatchDataset(empty, 2),
        MultihostSortedRemapDataset(empty, 4, 2),
    ):
        assert (len(dataset), list(dataset)) == (0, [])
        with pytest.raises(IndexError, match="index 0 is out of range: .* is empty"):
            dataset[0]
    assert list(PadBatchDataset(empty, 4, 5, "x")) == 8 * ["x"]


def test_endless_datasets():
    endless = grain.MapDataset.source(rows([3, 1])).repeat()
    for make in (
        lambda: SortedDataset(endless, length_of),
        lambda: PadBatchDataset(endless, 2, 0, 0),
        lambda: MultihostSortedRemapDataset(endless, 2, 1),
    ):
        with pytest.raises(ValueError, match=r"dataset has no end; put .* before .repeat\(\)"):
            make()
    padded = PadSequenceInBatchDataset(endless, 2, 2)
    assert [padded[index]["inputs"].shape[1] for index in (0, 1, 1_000_001)] == [4, 4, 4]


class TestSorted:
    @given(st.lists(st.integers(-5, 5)), st.booleans())
    def test_as_python_sorts(self, keys, reverse):
        source = grain.MapDataset.source(list(enumerate(keys)))
        expected = sorted(enumerate(keys), key=lambda pair: pair[1], reverse=reverse)
        assert list(SortedDataset(source, lambda pair: pair[1], reverse)) == expected

    @given(
        st.one_of(
            st.lists(st.integers(0, 2**31 - 1)),
            st.lists(st.integers(-(2**63), 2**63 - 1)),
            st.lists(st.integers(-(2**70), 2**70)),
            st.lists(st.floats(allow_nan=False)),
            st.lists(st.text(max_size=3)),
            st.lists(st.tuples(st.integers(0, 3), st.text(max_size=1))),
            st.lists(st.booleans()),
        ),
        st.booleans(),
    )
    def test_given_keys_of_all_kinds(self, keys, reverse):
        source = grain.MapDataset.range(len(keys)) if keys else grain.MapDataset.source([])
        expected = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
        assert list(SortedDataset(source, keys, reverse)) == expected

    @pytest.mark.parametrize(
        "dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float32, np.float64, np.bool_, object]
    )
    @pytest.mark.parametrize("reverse", [False, True])
    def test_given_arrays(self, dtype, reverse):
        keys = np.array([3, 0, 1, 3, 0, 2, 1]).astype(dtype)[::-1]
        expected = sorted(range(7), key=keys.tolist().__getitem__, reverse=reverse)
        assert list(SortedDataset(grain.MapDataset.range(7), keys, reverse)) == expected

    def test_each_epoch_is_sorted_by_itself(self):
        shuffled = grain.MapDataset.range(20).shuffle(seed=3)
        by_tens = SortedDataset(shuffled, lambda x: x // 10)
        epochs = [[by_tens[epoch * 20 + position] for position in range(20)] for epoch in (-1, 0, 1, 2)]
        for epoch, elements in zip((-1, 0, 1, 2), epochs, strict=True):
            given = [shuffled[epoch * 20 + position] for position in range(20)]
            assert elements == sorted(given, key=lambda x: x // 10)
        assert len(set(map(tuple, epochs))) == 4
        assert list(by_tens.repeat(2)) == epochs[1] + epochs[2]

    def test_filtered_elements_come_last(self):
        odd = grain.MapDataset.source([5, 2, 9, 4, 1]).filter(lambda x: x % 2 == 1)
        for reverse in (False, True):
            dataset = SortedDataset(odd, identity, reverse)
            ordered = sorted([5, 9, 1], reverse=reverse)
            assert [dataset[index] for index in range(5)] == [*ordered, None, None]
            assert list(dataset) == ordered

    def test_it_keeps_an_order_and_no_elements(self):
        alive = weakref.WeakSet()

        class Element:
            def __init__(self, key):
                self.key = key
                alive.add(self)

        dataset = SortedDataset(grain.MapDataset.range(100).map(Element), lambda element: -element.key)
        assert dataset[0].key == 99
        gc.collect()
        assert not alive

    def test_keys_are_taken_once_and_only_when_needed(self):
        source = Counting(list(range(50)))
        dataset = SortedDataset(grain.MapDataset.source(source), lambda x: -x)
        assert sum(source.reads) == 0
        threads = [threading.Thread(target=lambda: dataset[7]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(source.reads) == 50 + 8
        list(dataset)
        assert sum(source.reads) == 50 + 8 + 50

    def test_given_keys_spare_the_elements(self):
        source = Counting(list(range(50)))
        assert SortedDataset(grain.MapDataset.source(source), np.arange(50)[::-1].copy())[0] == 49
        assert sum(source.reads) == 1

    def test_a_pickle_carries_the_order(self):
        dataset = SortedDataset(grain.MapDataset.source([3, 1, 2]), identity)
        other = cloudpickle.loads(cloudpickle.dumps(dataset))
        other.key = lambda element: pytest.fail("the order was to come with the pickle")
        assert list(other) == [1, 2, 3]

    @pytest.mark.parametrize(
        ("keys", "error", "message"),
        [
            ([1, 2], ValueError, "key has 2 keys; dataset has 3 elements"),
            (np.array([1.0, np.nan, 2.0]), ValueError, r"key of element 1 is not a number \(NaN\)"),
            ([1.0, 2.0, float("nan")], ValueError, r"key of element 2 is not a number"),
            ([1, "a", 2], TypeError, "cannot be compared"),
            (np.zeros((3, 1)), ValueError, "key must have 1 dimension.* not 2"),
        ],
    )
    def test_bad_keys(self, keys, error, message):
        with pytest.raises(error, match=message):
            SortedDataset(grain.MapDataset.range(3), keys)

    def test_keys_that_turn_out_bad(self):
        with pytest.raises(TypeError, match="cannot be compared"):
            SortedDataset(grain.MapDataset.source([1, "a"]), identity)[0]
        with pytest.raises(KeyError, match="no 'inputs' to take the length of; it has \\['a'\\]"):
            SortedDataset(grain.MapDataset.source([{"a": 1}]), token_length)[0]
        with pytest.raises(ValueError, match="single number"):
            token_length({"inputs": 3})


class TestPadBatch:
    @given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 60))
    def test_whole_batches_of_at_least_the_minimum(self, size, multiple_of, min_length):
        source = grain.MapDataset.range(size) if size else grain.MapDataset.source([])
        dataset = PadBatchDataset(source, multiple_of, min_length, "pad")
        elements = list(dataset)
        assert elements[:size] == list(range(size))
        assert set(elements[size:]) <= {"pad"}
        assert len(elements) % multiple_of == 0
        assert max(size, min_length) <= len(elements) < max(size, min_length) + multiple_of

    def test_each_epoch_is_padded_and_filtered_elements_stay_out(self):
        odd = grain.MapDataset.source([1, 2, 3]).filter(lambda x: x % 2 == 1)
        dataset = PadBatchDataset(odd, 4, 0, 0)
        assert [dataset[index] for index in range(8)] == 2 * [1, None, 3, 0]
        assert list(dataset) == [1, 3, 0]

    @pytest.mark.parametrize(
        ("multiple_of", "min_length", "error", "message"),
        [
            (0, 0, ValueError, "multiple_of is 0; it must be at least 1"),
            (1, -1, ValueError, "min_length is -1; it must be at least 0"),
            (1.5, 0, TypeError, "multiple_of must be a whole number, not float"),
            (True, 0, TypeError, "multiple_of must be a whole number, not bool"),
        ],
    )
    def test_bad_numbers(self, multiple_of, min_length, error, message):
        with pytest.raises(error, match=message):
            PadBatchDataset(grain.MapDataset.range(3), multiple_of, min_length, 0)


def test_the_empty_sample_has_all_parts_of_a_batch():
    from windrow.batch import LLMIndexedBatch

    sample = empty_llm_indexed_sample()
    assert set(sample) == set(LLMIndexedBatch._fields)
    assert not any(np.any(part) for part in sample.values())
    assert token_length(sample) == 1
    assert {part.shape for name, part in sample.items() if name.endswith("_idx")} == {(1,)}


class TestPadSequenceInBatch:
    @settings(max_examples=50)
    @given(
        st.lists(st.integers(0, 9), min_size=1, max_size=20),
        st.integers(1, 6),
        st.integers(1, 5),
        st.sampled_from([0, -1, 7]),
    )
    def test_each_batch_has_one_length(self, lengths, batch_size, multiple_of, pad_value):
        elements = rows(lengths)
        source = Counting(elements)
        dataset = PadSequenceInBatchDataset(
            grain.MapDataset.source(source), batch_size, multiple_of, pad_value
        )
        padded = list(dataset.to_iter_dataset(grain.ReadOptions(0, 0)))
        for number in range(-(-len(lengths) // batch_size)):
            batch = padded[number * batch_size :][:batch_size]
            longest = max(lengths[number * batch_size :][:batch_size])
            length = -(-longest // multiple_of) * multiple_of
            for element, original in zip(batch, elements[number * batch_size :], strict=False):
                own = original["inputs"].shape[1]
                assert element["inputs"].shape == (1, length)
                assert np.array_equal(element["inputs"][:, :own], original["inputs"])
                assert (element["inputs"][:, own:] == pad_value).all()
                assert element["inputs"].dtype == np.int32
                assert pytree_diff(element["idx"], original["idx"]) is None
        assert source.reads == [1] * len(lengths)

    def test_each_element_is_read_once_by_many_threads(self):
        source = Counting(rows([number % 7 for number in range(500)]))
        dataset = PadSequenceInBatchDataset(grain.MapDataset.source(source), 8, 4)
        list(dataset.to_iter_dataset(grain.ReadOptions(16, 500)))
        assert source.reads == [1] * 500

    def test_keys_have_lengths_of_their_own(self):
        elements = [
            {"a": np.ones((1, 2)), "b": np.ones((1, 5, 2))},
            {"a": np.ones((1, 3)), "b": np.ones((1, 1, 2))},
        ]
        first, second = PadSequenceInBatchDataset(grain.MapDataset.source(elements), 2, 4)
        assert {key: array.shape for key, array in first.items()} == {"a": (1, 4), "b": (1, 8, 2)}
        assert {key: array.shape for key, array in second.items()} == {"a": (1, 4), "b": (1, 8, 2)}

    def test_epochs_do_not_share_batches(self):
        dataset = PadSequenceInBatchDataset(grain.MapDataset.source(rows([1, 9, 2])).shuffle(seed=1), 2, 1)
        for epoch in range(4):
            parent = [dataset.dataset[epoch * 3 + position]["inputs"].shape[1] for position in range(3)]
            padded = [dataset[epoch * 3 + position]["inputs"].shape[1] for position in range(3)]
            assert padded == [max(parent[:2]), max(parent[:2]), parent[2]]

    def test_filtered_elements_stay_out(self):
        source = grain.MapDataset.source(rows([1, 5, 2, 3])).filter(lambda element: length_of(element) != 5)
        dataset = PadSequenceInBatchDataset(source, 2, 2)
        assert dataset[1] is None
        assert [element["inputs"].shape[1] for element in dataset] == [2, 4, 4]
        nothing = grain.MapDataset.source(rows([1])).filter(lambda element: False)
        assert PadSequenceInBatchDataset(nothing, 2, 2)[0] is None

    @pytest.mark.parametrize(
        ("elements", "error", "message"),
        [
            (
                [{"a": np.ones((1, 2))}, {"b": np.ones((1, 2))}],
                KeyError,
                "element [01] has no '[ab]', which element",
            ),
            (
                [{"a": np.ones((1, 2))}, {"a": np.ones(2)}],
                ValueError,
                "'a' of element 1 has 1 dimensions.* 0 2",
            ),
            ([[1, 2], [3]], TypeError, "element 0 is a list; it must be a dictionary of arrays"),
            ([{"a": np.ones((1, 2), np.bool_)}], ValueError, "pad_value 5 does not fit arrays of bool"),
        ],
    )
    def test_bad_elements(self, elements, error, message):
        with pytest.raises(error, match=message):
            PadSequenceInBatchDataset(grain.MapDataset.source(elements), 2, 4, 5)[0]

    def test_a_bad_batch_fails_each_time_and_spares_the_others(self):
        elements = [{"a": np.ones((1, 2))}, {"b": np.ones((1, 2))}, {"a": np.ones((1, 2))}]
        dataset = PadSequenceInBatchDataset(grain.MapDataset.source(elements), 2, 4)
        for _ in range(2):
            with pytest.raises(KeyError):
                dataset[1]
        assert dataset[2]["a"].shape == (1, 4)

    @pytest.mark.parametrize(("batch_size", "multiple_of"), [(0, 1), (1, 0), (-1, 1)])
    def test_bad_numbers(self, batch_size, multiple_of):
        with pytest.raises(ValueError, match="it must be at least 1"):
            PadSequenceInBatchDataset(grain.MapDataset.range(3), batch_size, multiple_of)


class TestPadBatchMultiple:
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=6),
        st.integers(1, 5),
        st.sampled_from([1, -1]),
        st.integers(-3, 3),
        st.integers(0, 4),
    )
    def test_as_numpy_pads(self, shapes, multiple_of, axis, pad_value, extra):
        batch = [np.arange(height * width, dtype=np.int16).reshape(height, width) for height, width in shapes]
        length = -(-max(width for _, width in shapes) // multiple_of) * multiple_of
        expected = np.concatenate(
            [
                np.pad(array, ((0, 0), (0, length - array.shape[1])), constant_values=pad_value)
                for array in batch
            ]
        )
        assert pytree_diff(_pad_batch_multiple(batch, multiple_of, axis, pad_value), expected) is None
        more = np.pad(expected, ((0, extra), (0, 0)), constant_values=pad_value)
        padded = _pad_batch_multiple(batch, multiple_of, axis, pad_value, len(expected) + extra)
        assert pytree_diff(padded, more) is None

    def test_along_the_first_axis_every_array_is_padded(self):
        padded = _pad_batch_multiple([np.array([1, 2, 3]), np.array([4])], 2, axis=0, pad_value=9)
        assert padded.tolist() == [1, 2, 3, 9, 4, 9, 9, 9]

    @pytest.mark.parametrize(
        ("batch", "options", "message"),
        [
            ([], {}, "batch is empty"),
            ([np.ones((1, 2)), np.ones(2)], {}, r"batch\[1\] has 1 dimensions, batch\[0\] 2"),
            ([np.ones((1, 2, 3)), np.ones((1, 2, 4))], {}, r"may differ in axes 0 and 1 only"),
            (
                [np.ones((1, 2)), np.ones((1, 2), np.int32)],
                {},
                r"batch\[1\] has dtype int32, batch\[0\] float64",
            ),
            ([np.ones(2)], {}, "axis is 1; the arrays of batch have 1 dimensions"),
            ([np.ones((1, 2))], {"multiple_of": 0}, "multiple_of is 0"),
            ([np.ones((3, 2))], {"batch_size_pad": 2}, "batch has 3 rows, more than the 2 of batch_size_pad"),
            ([np.ones((1, 2), np.uint8)], {"pad_value": -100}, "pad_value -100 does not fit arrays of uint8"),
            ([np.ones((1, 2), np.int32)], {"pad_value": 0.5}, "pad_value 0.5 does not fit arrays of int32"),
        ],
    )
    def test_bad_arguments(self, batch, options, message):
        with pytest.raises(ValueError, match=message):
            _pad_batch_multiple(batch, **options)


class TestRemap:
    @given(st.integers(1, 16), st.integers(1, 4), st.integers(0, 5))
    def test_hosts_slices_batched_are_the_global_batches(self, hosts, host_rows, batches):
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
            (8, 4, 3, "global_batch_size is 4, which 3 hosts do not divide; give a multiple"),
            (
                7,
                4,
                2,
                "dataset has 7 elements, no multiple of .* 4; fill the last batch with PadBatchDataset",
            ),
            (8, 0, 1, "global_batch_size is 0"),
            (8, 4, 0, "dataloader_host_count is 0"),
        ],
    )
    def test_bad_numbers(self, size, global_batch_size, hosts, message):
        with pytest.raises(ValueError, match=message):
            MultihostSortedRemapDataset(grain.MapDataset.range(size), global_batch_size, hosts)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
    st.integers(1, 16),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
)
def test_the_references_chain_over_many_hosts(lengths, hosts, host_rows, multiple_of, reverse):
    """Sorted, padded, remapped, sliced by hosts, padded in batches: the parts are the sorted global batches."""
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
    def test_large_arrays_pickle_by_name_and_go_with_their_owner(self):
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
        with pytest.raises(FileNotFoundError, match="lives as long as the dataset that was pickled"):
            pickle.loads(stored)

    def test_small_arrays_pickle_whole(self):
        stored = pickle.dumps(SharedArray(np.arange(10)))
        assert np.array_equal(pickle.loads(stored).array, np.arange(10))

    def test_they_are_read_only_and_not_copied(self):
        values = np.arange(10)
        shared = SharedArray(values)
        assert np.shares_memory(shared.array, values)
        assert copy.deepcopy(shared) is shared
        assert values.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            shared.array[0] = 1
