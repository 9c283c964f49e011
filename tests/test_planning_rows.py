"""Rows: packing segments into them, dividing them between hosts, and padding them.

The core's own property tests are in ``pack.rs``, ``shard.rs`` and ``collate.rs``. Errors for wrong
dtypes and layouts are in ``test_planning_arguments.py``.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from int_arrays import i32, i64
from windrow.planning import multihost_remap, pack_rows, pad_rows

INT32_MAX = 2**31 - 1


# pack_rows


def test_no_segments_need_no_rows():
    row, start = pack_rows(i32(), 0, 1)
    assert (row.shape, row.dtype, start.shape, start.dtype) == ((0,), np.int64, (0,), np.int32)


@pytest.mark.parametrize(
    ("lengths", "capacity", "max_segments", "row", "start"),
    [
        ([5], 5, 1, [0], [0]),
        ([0, 0, 0], 0, 2, [0, 0, 1], [0, 0, 0]),
        ([6, 0], 6, 2, [0, 0], [0, 6]),
        ([6, 0], 6, 1, [0, 1], [0, 0]),
        ([INT32_MAX, 0, INT32_MAX - 1, 1], INT32_MAX, 9, [0, 0, 1, 1], [0, INT32_MAX, 0, INT32_MAX - 1]),
        ([2, 2, 2, 2], 4, 2**63 - 1, [0, 0, 1, 1], [0, 2, 0, 2]),
    ],
)
def test_packing(lengths, capacity, max_segments, row, start):
    packed = pack_rows(np.array(lengths, np.int32), capacity, max_segments)
    np.testing.assert_array_equal(packed[0], row)
    np.testing.assert_array_equal(packed[1], start)


@pytest.mark.parametrize(
    ("lengths", "capacity", "message"),
    [
        ([3, -1], 8, r"^lengths\[1\] is -1; it must be at least 0"),
        ([3, 9], 8, r"^lengths\[1\] is 9; it must be at most capacity, which is 8"),
        ([INT32_MAX], INT32_MAX - 1, r"^lengths\[0\] is 2147483647; it must be at most capacity"),
        ([-(2**31)], INT32_MAX, r"^lengths\[0\] is -2147483648; it must be at least 0"),
    ],
)
def test_lengths_outside_the_capacity_are_rejected(lengths, capacity, message):
    with pytest.raises(ValueError, match=message):
        pack_rows(np.array(lengths, np.int32), capacity, 4)


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(60, 2**31 - 1), st.integers(1, 9))
def test_segments_fit_their_rows(lengths, capacity, max_segments):
    lengths = np.array(lengths, np.int32)
    row, start = pack_rows(lengths, capacity, max_segments)
    rows = row.max(initial=-1) + 1
    assert set(row.tolist()) == set(range(rows))
    for members in (np.flatnonzero(row == index) for index in range(rows)):
        assert len(members) <= max_segments
        members = members[np.lexsort((lengths[members], start[members]))]
        ends = np.cumsum(lengths[members])
        np.testing.assert_array_equal(start[members], ends - lengths[members])
        assert ends[-1] <= capacity


# multihost_remap


def test_documented_example():
    data = np.arange(1, 9)[multihost_remap(8, 4, 2)]
    assert data[:4].reshape(2, 2).tolist() == [[1, 2], [5, 6]]
    assert data[4:].reshape(2, 2).tolist() == [[3, 4], [7, 8]]


@given(st.integers(0, 12), st.integers(1, 8), st.integers(1, 8))
def test_hosts_batches_form_the_global_batches(batches, host_rows, hosts):
    remap = multihost_remap(batches * host_rows * hosts, host_rows * hosts, hosts)
    by_host = remap.reshape(hosts, batches, host_rows)
    assert remap.dtype == np.int64
    np.testing.assert_array_equal(by_host.swapaxes(0, 1).ravel(), np.arange(remap.size))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((10, 4, 2), "^size is 10; it must be a multiple of global_batch_size, which is 4"),
        ((8, 4, 3), "^global_batch_size is 4; it must be a multiple of host_count, which is 3"),
        ((2, 4, 2), "^size is 2; it must be a multiple of global_batch_size, which is 4"),
        ((8, 0, 2), "^global_batch_size is 0; it must be at least 1"),
        ((8, 4, 0), "^host_count is 0; it must be at least 1"),
        ((2**62, 4, 2), "^size is 4611686018427387904; it must be small enough"),
    ],
)
def test_sizes_not_divisible_by_hosts_are_rejected(numbers, message):
    with pytest.raises(ValueError, match=message):
        multihost_remap(*numbers)


def test_remap_larger_than_memory_raises_memory_error():
    with pytest.raises(MemoryError):
        multihost_remap(2**52, 4, 2)


# pad_rows


def test_padding_no_rows():
    padded = pad_rows(i32(), i64(0), i64(), 8, 0)
    assert (padded.shape, padded.dtype) == ((0, 8), np.int32)
    assert pad_rows(i32(1, 2), i64(0, 2), i64(), INT32_MAX, 0).shape == (0, INT32_MAX)
    assert pad_rows(i32(), i64(), i64(-1, -1), 0, 0).shape == (2, 0)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=20),
    st.data(),
    st.integers(0, 20),
    st.integers(-(2**31), INT32_MAX),
)
def test_padding_matches_numpy(lengths, data, spare, fill):
    offsets = np.cumsum([0, *lengths])
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    rows = data.draw(st.lists(st.integers(-1, len(lengths) - 1), max_size=20))
    length = max(lengths) + spare
    padded = pad_rows(tokens, offsets, np.array(rows, np.int64), length, fill)
    assert padded.shape == (len(rows), length)
    assert padded.dtype == np.int32
    assert padded.flags.c_contiguous
    assert padded.flags.owndata
    for line, row in zip(padded, rows, strict=True):
        segment = tokens[offsets[row] : offsets[row + 1]] if row >= 0 else tokens[:0]
        expected = np.pad(segment, (0, length - len(segment)), constant_values=fill)
        np.testing.assert_array_equal(line, expected)


@pytest.mark.parametrize(
    ("offsets", "rows", "length", "message"),
    [
        ([0, 3, 5], [1, 2], 4, r"^rows\[1\] is 2; it must be one of the 2 segments, .* or -1 for filler"),
        ([0, 3, 5], [-2], 4, r"^rows\[0\] is -2; it must be one of the 2 segments"),
        ([0], [0], 4, r"^rows\[0\] is 0; it must be one of the 0 segments"),
        ([], [0], 4, r"^rows\[0\] is 0; it must be one of the 0 segments"),
        ([0, 3, 5], [1, 0], 2, r"^rows\[1\] is segment 0 with 3 tokens; .* length is 2"),
        ([0, 6], [0], 9, r"^offsets\[1\] is 6; it must be at most the number of tokens"),
        ([-1, 3], [0], 9, r"^offsets\[0\] is -1; it must be at least 0"),
        ([4, 3], [0], 9, r"^offsets\[0\] is 4; it must be .* at most the offset after it"),
    ],
)
def test_rows_that_cannot_be_padded_are_rejected(offsets, rows, length, message):
    with pytest.raises(ValueError, match=message):
        pad_rows(i32(1, 2, 3, 4, 5), np.array(offsets, np.int64), np.array(rows, np.int64), length, 0)


def test_matrix_larger_than_memory_raises_memory_error():
    with pytest.raises(MemoryError):
        pad_rows(i32(), i64(0), np.full(2**20, -1), INT32_MAX, 0)


def test_matrix_larger_than_the_address_space_raises_value_error():
    try:
        rows = np.zeros(2**30 + 1, np.int64)
    except MemoryError:
        pytest.skip("needs 8 GiB of address space")
    with pytest.raises(ValueError, match=r"^rows has 1073741825 elements and length is 2147483647; "):
        pad_rows(i32(), i64(0), rows, INT32_MAX, 0)
