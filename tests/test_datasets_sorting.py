"""Sorting matches Python's in each epoch, and stores an order but no elements."""

import gc
import threading
import weakref

import cloudpickle
import grain
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elements import Counting, identity
from windrow.datasets import SortedDataset, token_length


@given(st.lists(st.integers(-5, 5)), st.booleans())
def test_order_matches_python(keys, reverse):
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
def test_given_keys_of_all_types(keys, reverse):
    source = grain.MapDataset.range(len(keys)) if keys else grain.MapDataset.source([])
    expected = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
    assert list(SortedDataset(source, keys, reverse)) == expected


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float32, np.float64, np.bool_, object]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_given_arrays(dtype, reverse):
    keys = np.array([3, 0, 1, 3, 0, 2, 1]).astype(dtype)[::-1]
    expected = sorted(range(7), key=keys.tolist().__getitem__, reverse=reverse)
    assert list(SortedDataset(grain.MapDataset.range(7), keys, reverse)) == expected


def test_each_epoch_is_sorted_separately():
    shuffled = grain.MapDataset.range(20).shuffle(seed=3)
    by_tens = SortedDataset(shuffled, lambda x: x // 10)
    epochs = [[by_tens[epoch * 20 + position] for position in range(20)] for epoch in (-1, 0, 1, 2)]
    for epoch, elements in zip((-1, 0, 1, 2), epochs, strict=True):
        given = [shuffled[epoch * 20 + position] for position in range(20)]
        assert elements == sorted(given, key=lambda x: x // 10)
    assert len(set(map(tuple, epochs))) == 4
    assert list(by_tens.repeat(2)) == epochs[1] + epochs[2]


def test_filtered_elements_come_last():
    odd = grain.MapDataset.source([5, 2, 9, 4, 1]).filter(lambda x: x % 2 == 1)
    for reverse in (False, True):
        dataset = SortedDataset(odd, identity, reverse)
        ordered = sorted([5, 9, 1], reverse=reverse)
        assert [dataset[index] for index in range(5)] == [*ordered, None, None]
        assert list(dataset) == ordered


def test_stores_an_order_and_no_elements():
    alive = weakref.WeakSet()

    class Element:
        def __init__(self, key):
            self.key = key
            alive.add(self)

    dataset = SortedDataset(grain.MapDataset.range(100).map(Element), lambda element: -element.key)
    assert dataset[0].key == 99
    gc.collect()
    assert not alive


def test_keys_are_computed_once_and_only_when_needed():
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


def test_given_keys_avoid_reading_elements():
    source = Counting(list(range(50)))
    assert SortedDataset(grain.MapDataset.source(source), np.arange(50)[::-1].copy())[0] == 49
    assert sum(source.reads) == 1


def test_pickle_includes_the_order():
    dataset = SortedDataset(grain.MapDataset.source([3, 1, 2]), identity)
    other = cloudpickle.loads(cloudpickle.dumps(dataset))
    other.key = lambda element: pytest.fail("the order was to come with the pickle")
    assert list(other) == [1, 2, 3]


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ([1, 2], ValueError, "key has 2 keys; dataset has 3 elements"),
        (np.array([1.0, np.nan, 2.0]), ValueError, r"key of element 1 is NaN, which cannot be sorted"),
        ([1.0, 2.0, float("nan")], ValueError, r"key of element 2 is NaN, which cannot be sorted"),
        ([1, "a", 2], TypeError, "cannot be compared"),
        (np.zeros((3, 1)), ValueError, "key must have 1 dimension.* not 2"),
    ],
)
def test_bad_keys(keys, error, message):
    with pytest.raises(error, match=message):
        SortedDataset(grain.MapDataset.range(3), keys)


def test_bad_keys_found_during_sorting():
    with pytest.raises(TypeError, match="cannot be compared"):
        SortedDataset(grain.MapDataset.source([1, "a"]), identity)[0]
    with pytest.raises(KeyError, match="no 'inputs' to take the length of; it has \\['a'\\]"):
        SortedDataset(grain.MapDataset.source([{"a": 1}]), token_length)[0]
    with pytest.raises(ValueError, match="single number"):
        token_length({"inputs": 3})
