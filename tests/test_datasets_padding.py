"""Padding to whole batches and common lengths; each element is read once."""

from dataclasses import fields

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elements import Counting, length_of, rows
from trees import pytree_diff
from windrow.batch import LLMIndexedBatch
from windrow.datasets import (
    PadBatchDataset,
    PadSequenceInBatchDataset,
    _pad_batch_multiple,
    empty_llm_indexed_sample,
    token_length,
)


class TestPadBatch:
    @given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 60))
    def test_pads_to_whole_batches_or_the_minimum(self, size, multiple_of, min_length):
        source = grain.MapDataset.range(size) if size else grain.MapDataset.source([])
        dataset = PadBatchDataset(source, multiple_of, min_length, "pad")
        elements = list(dataset)
        assert elements[:size] == list(range(size))
        assert set(elements[size:]) <= {"pad"}
        assert len(elements) == len(dataset) == max(-(-size // multiple_of) * multiple_of, min_length)

    def test_minimum_is_not_rounded_up(self):
        source = grain.MapDataset.source([3, 1, 2])
        assert list(PadBatchDataset(source, 4, 7, 0)) == [3, 1, 2, 0, 0, 0, 0]
        assert list(PadBatchDataset(source, 4, 2, 0)) == [3, 1, 2, 0]

    def test_each_epoch_is_padded_and_filtered_elements_are_left_out(self):
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


def test_empty_sample_has_all_fields_of_a_batch():
    sample = empty_llm_indexed_sample()
    assert set(sample) == {field.name for field in fields(LLMIndexedBatch)}
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

    def test_late_element_is_still_read_once(self):
        source = Counting(rows([number % 7 for number in range(500)]))
        dataset = PadSequenceInBatchDataset(grain.MapDataset.source(source), 8, 4)
        late = 5, 15
        others = [index for index in range(500) if index not in late]
        assert all(dataset[index] is not None for index in (*others, *late))
        assert source.reads == [1] * 500

    def test_partly_read_batches_are_evicted(self):
        source = Counting(rows([3] * 800))
        dataset = PadSequenceInBatchDataset(grain.MapDataset.source(source), 8, 4)
        assert all(dataset[index] is not None for index in range(0, 800, 4))
        assert len(dataset._batches._slots) == 32
        assert source.reads == [1] * 800

    def test_each_key_has_its_own_length(self):
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

    def test_filtered_elements_are_left_out(self):
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

    def test_bad_batch_fails_every_time_and_others_do_not(self):
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
    def test_padding_matches_numpy(self, shapes, multiple_of, axis, pad_value, extra):
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

    def test_padding_the_first_axis_includes_every_array(self):
        padded = _pad_batch_multiple([np.array([1, 2, 3]), np.array([4])], 2, axis=0, pad_value=9)
        assert padded.tolist() == [1, 2, 3, 9, 4, 9, 9, 9]

    @pytest.mark.parametrize(
        ("batch", "options", "expected"),
        [
            ([np.array([1, 2]), np.array([3])], {}, [1, 2, 3]),
            ([np.array([1]), np.array([2])], {"batch_size_pad": 4, "pad_value": 9}, [1, 2, 9, 9]),
            ([np.array(1), np.array(2), np.array(3)], {}, [1, 2, 3]),
            ([np.array(1)], {"batch_size_pad": 3, "multiple_of": 2}, [1, 0, 0]),
            ([np.array(1), np.array([2, 3])], {}, [1, 2, 3]),
            ([5, 6], {}, [5, 6]),
        ],
    )
    def test_arrays_without_a_sequence_axis_are_concatenated_or_stacked(self, batch, options, expected):
        assert pytree_diff(_pad_batch_multiple(batch, **options), np.array(expected)) is None

    @pytest.mark.parametrize("shape", [(), (1,), (1, 2)])
    def test_mixed_dtypes_are_promoted_as_in_numpy(self, shape):
        batch = [np.ones(shape, np.int32), np.full(shape, 2, np.int64), np.zeros(shape, np.bool_)]
        padded = _pad_batch_multiple(batch, multiple_of=2)
        assert pytree_diff(padded, np.concatenate([np.atleast_1d(array) for array in batch])) is None
        assert padded.dtype == np.int64
        batch = [np.ones(shape, np.int32), np.full(shape, 0.5)]
        assert (
            pytree_diff(_pad_batch_multiple(batch, 2), np.concatenate(list(map(np.atleast_1d, batch))))
            is None
        )

    @pytest.mark.parametrize("shape", [(), (1,), (1, 4)])
    def test_batch_size_0_adds_no_rows(self, shape):
        batch = [np.ones(shape), np.ones(shape)]
        padded = _pad_batch_multiple(batch, 4, batch_size_pad=0)
        assert pytree_diff(padded, _pad_batch_multiple(batch, 4)) is None
        assert len(padded) == 2

    @pytest.mark.parametrize(
        ("batch", "options", "message"),
        [
            ([], {}, "batch is empty"),
            ([np.ones((1, 2)), np.ones(2)], {}, r"batch\[1\] has 1 dimensions, batch\[0\] 2"),
            ([np.ones((1, 2, 3)), np.ones((1, 2, 4))], {}, r"may differ in axes 0 and 1 only"),
            ([np.ones(2)], {"axis": 2}, "axis is 2; the arrays of batch have 1 dimensions"),
            ([np.ones((1, 2))], {"axis": 2}, "axis is 2; the arrays of batch have 2 dimensions"),
            ([np.array(1), np.ones((1, 2))], {}, r"batch\[1\] has 2 dimensions, batch\[0\] 1"),
            ([np.ones((1, 2))], {"batch_size_pad": -1}, "batch_size_pad is -1"),
            ([np.ones(2)], {"multiple_of": 0}, "multiple_of is 0"),
            ([np.ones((1, 2))], {"multiple_of": 0}, "multiple_of is 0"),
            ([np.ones((3, 2))], {"batch_size_pad": 2}, "batch has 3 rows, more than the 2 of batch_size_pad"),
            ([np.ones((1, 2), np.uint8)], {"pad_value": -100}, "pad_value -100 does not fit arrays of uint8"),
            ([np.ones((1, 2), np.int32)], {"pad_value": 0.5}, "pad_value 0.5 does not fit arrays of int32"),
        ],
    )
    def test_bad_arguments(self, batch, options, message):
        with pytest.raises(ValueError, match=message):
            _pad_batch_multiple(batch, **options)
