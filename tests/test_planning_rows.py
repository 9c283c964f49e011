"""Rows: packing segments into them, sharing them out among hosts, padding them.

The laws of each function are tested beside the core, in ``pack.rs``, ``shard.rs`` and ``collate.rs``;
here it is what NumPy brings along: dtypes, layouts, sizes, and exceptions.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windrow.planning import multihost_remap, pack_rows, pad_rows

INT32_MAX = 2**31 - 1


def i32(*values):
    return np.array(values, np.int32)


def i64(*values):
    return np.array(values, np.int64)


def strided(array):
    return np.repeat(array, 2)[::2]


def misaligned(array):
    return np.frombuffer(b"-" + array.tobytes(), array.dtype, offset=1)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


ARRAYS = {
    "pack_rows.lengths": (i32(4, 3, 2, 3), lambda array: pack_rows(array, 6, 8)),
    "pad_rows.tokens": (i32(7, 8, 9, 5, 6), lambda array: pad_rows(array, i64(0, 3, 5), i64(1, -1, 0), 4, 0)),
    "pad_rows.offsets": (i64(0, 3, 5), lambda array: pad_rows(i32(7, 8, 9, 5, 6), array, i64(1, -1), 4, 0)),
    "pad_rows.rows": (i64(1, -1, 0), lambda array: pad_rows(i32(7, 8, 9, 5, 6), i64(0, 3, 5), array, 4, 0)),
}
NUMBERS = {
    "pack_rows.capacity": (6, lambda number: pack_rows(i32(4, 3), number, 8)),
    "pack_rows.max_segments": (8, lambda number: pack_rows(i32(4, 3), 6, number)),
    "multihost_remap.size": (8, lambda number: multihost_remap(number, 4, 2)),
    "multihost_remap.global_batch_size": (4, lambda number: multihost_remap(8, number, 2)),
    "multihost_remap.host_count": (2, lambda number: multihost_remap(8, 4, number)),
    "pad_rows.length": (4, lambda number: pad_rows(i32(7, 8), i64(0, 2), i64(0), number, 0)),
    "pad_rows.fill": (9, lambda number: pad_rows(i32(7, 8), i64(0, 2), i64(0), 4, number)),
}
arrays = pytest.mark.parametrize(
    ("argument", "array", "call"),
    [pytest.param(name.split(".")[1], *case, id=name) for name, case in ARRAYS.items()],
)
numbers = pytest.mark.parametrize(
    ("argument", "number", "call"),
    [pytest.param(name.split(".")[1], *case, id=name) for name, case in NUMBERS.items()],
)


@arrays
def test_a_read_only_array_is_as_good(argument, array, call):
    np.testing.assert_equal(call(read_only(array)), call(array))


@arrays
def test_an_array_is_left_as_it_was(argument, array, call):
    before = array.copy()
    call(array)
    np.testing.assert_array_equal(array, before)


@arrays
@pytest.mark.parametrize("spoil", [strided, misaligned])
def test_a_layout_that_needs_a_copy_is_refused(argument, array, call, spoil):
    spoiled = spoil(array)
    np.testing.assert_array_equal(spoiled, array)
    with pytest.raises(ValueError, match=f"^{argument} must be contiguous and aligned"):
        call(spoiled)


@arrays
@pytest.mark.parametrize("dtype", ["int16", "uint32", "uint64", "float32", "bool", "swapped", "other"])
def test_another_dtype_is_refused(argument, array, call, dtype):
    other = {"swapped": array.dtype.newbyteorder(), "other": "i8" if array.dtype == np.int32 else "i4"}
    with pytest.raises(TypeError, match=f"^{argument} must have dtype {array.dtype}, not "):
        call(array.astype(other.get(dtype, dtype)))


@arrays
def test_what_is_no_vector_is_refused(argument, array, call):
    with pytest.raises(TypeError, match=f"^{argument} must be a NumPy array of {array.dtype}, not list"):
        call(array.tolist())
    for shaped in (array[None], array[0:1].reshape(())):
        with pytest.raises(TypeError, match=f"^{argument} must have 1 dimension, not {shaped.ndim}"):
            call(shaped)


@numbers
def test_any_kind_of_integer_is_one(argument, number, call):
    np.testing.assert_equal(call(np.int64(number)), call(number))
    np.testing.assert_equal(call(np.uint8(number)), call(number))


@numbers
@pytest.mark.parametrize("wrong", [4.0, "4", None, [4]])
def test_what_is_no_integer_is_refused(argument, number, call, wrong):
    with pytest.raises(TypeError, match=f"^{argument} must be an integer, not {type(wrong).__name__}"):
        call(wrong)


@numbers
@pytest.mark.parametrize("huge", [2**63, -(2**63) - 1, pytest.param(10**5000, id="too long to print")])
def test_an_integer_beyond_64_bits_is_refused(argument, number, call, huge):
    with pytest.raises(ValueError, match=f"^{argument} does not fit into 64 bits"):
        call(huge)


@numbers
@pytest.mark.parametrize("negative", [-1, -(2**31) - 1, -(2**63)])
def test_a_negative_number_is_refused_unless_it_can_fill(argument, number, call, negative):
    if argument == "fill" and negative == -1:
        assert call(negative)[0, -1] == -1
        return
    with pytest.raises(ValueError, match=f"^{argument} is {negative}; it must "):
        call(negative)


@pytest.mark.parametrize("name", ["pack_rows.capacity", "pad_rows.length", "pad_rows.fill"])
def test_a_number_beyond_32_bits_is_refused_where_tokens_are_counted(name):
    with pytest.raises(ValueError, match=f"^{name.split('.')[1]} is 2147483648; it must fit int32"):
        NUMBERS[name][1](2**31)


# pack_rows


def test_nothing_packs_into_no_rows():
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
def test_a_length_that_no_row_holds_is_refused(lengths, capacity, message):
    with pytest.raises(ValueError, match=message):
        pack_rows(np.array(lengths, np.int32), capacity, 4)


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(60, 2**31 - 1), st.integers(1, 9))
def test_rows_hold_their_segments(lengths, capacity, max_segments):
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


def test_the_reference_example():
    data = np.arange(1, 9)[multihost_remap(8, 4, 2)]
    assert data[:4].reshape(2, 2).tolist() == [[1, 2], [5, 6]]
    assert data[4:].reshape(2, 2).tolist() == [[3, 4], [7, 8]]


@given(st.integers(0, 12), st.integers(1, 8), st.integers(1, 8))
def test_hosts_batches_are_the_global_batches(batches, host_rows, hosts):
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
def test_what_hosts_cannot_share_is_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        multihost_remap(*numbers)


def test_a_remap_beyond_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        multihost_remap(2**52, 4, 2)


# pad_rows


def test_no_rows_pad_to_a_matrix_without_rows():
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
def test_pads_as_numpy_does(lengths, data, spare, fill):
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
def test_rows_that_cannot_be_padded_are_refused(offsets, rows, length, message):
    with pytest.raises(ValueError, match=message):
        pad_rows(i32(1, 2, 3, 4, 5), np.array(offsets, np.int64), np.array(rows, np.int64), length, 0)


def test_a_matrix_beyond_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        pad_rows(i32(), i64(0), np.full(2**20, -1), INT32_MAX, 0)


def test_a_matrix_beyond_addresses_is_a_value_error():
    try:
        rows = np.zeros(2**30 + 1, np.int64)
    except MemoryError:
        pytest.skip("needs 8 GiB of address space")
    with pytest.raises(ValueError, match=r"^rows has 1073741825 elements and length is 2147483647; "):
        pad_rows(i32(), i64(0), rows, INT32_MAX, 0)
