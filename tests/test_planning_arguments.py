"""Arrays and numbers as arguments of the planning functions: which dtypes, layouts and sizes are accepted."""

import numpy as np
import pytest

from int_arrays import i32, i64, misaligned, read_only, strided
from windrow import Plan
from windrow.planning import (
    bucket_ids,
    choose_lengths,
    group_identical,
    invert_order,
    length_order,
    multihost_remap,
    pack_rows,
    pad_rows,
    prefix_order,
    round_up,
    token_lengths,
    tree_rows,
)

TOKENS, OFFSETS = i32(1, 2, 3, 5, 6, 8, 9, 1, 2, 3, 4, 1, 2, 7, 8, 9), i64(0, 5, 7, 11, 14, 16)
LENGTHS, ORDER, SHARED = i32(5, 2, 4, 3, 2), i64(2, 0, 3, 1, 4), i32(0, 3, 2, 0, 2)


def tree_plan(lengths, order, shared):
    plan = Plan(lengths, prefixes=(order, shared), padded_lengths=[8], batch_size=1)
    return plan.batches, plan.starts, plan.own, plan.parents


ARRAYS = {
    "length_order.lengths": (i32(3, 1, 2), length_order),
    "invert_order.order": (i64(2, 0, 1), invert_order),
    "round_up.lengths": (i32(3, 1, 2), lambda array: round_up(array, 8)),
    "choose_lengths.lengths": (i32(3, 1, 2), lambda array: choose_lengths(array, 2)),
    "bucket_ids.lengths": (i32(3, 1, 2), lambda array: bucket_ids(array, i32(4))),
    "bucket_ids.bucket_lengths": (i32(3, 4), lambda array: bucket_ids(i32(1, 3), array)),
    "token_lengths.offsets": (i64(0, 2, 5), token_lengths),
    "group_identical.tokens": (i32(7, 8, 7), lambda array: group_identical(array, i64(0, 1, 3))),
    "group_identical.offsets": (i64(0, 1, 3), lambda array: group_identical(i32(7, 8, 7), array)),
    "pack_rows.lengths": (i32(4, 3, 2, 3), lambda array: pack_rows(array, 6, 8)),
    "pad_rows.tokens": (i32(7, 8, 9, 5, 6), lambda array: pad_rows(array, i64(0, 3, 5), i64(1, -1, 0), 4, 0)),
    "pad_rows.offsets": (i64(0, 3, 5), lambda array: pad_rows(i32(7, 8, 9, 5, 6), array, i64(1, -1), 4, 0)),
    "pad_rows.rows": (i64(1, -1, 0), lambda array: pad_rows(i32(7, 8, 9, 5, 6), i64(0, 3, 5), array, 4, 0)),
    "prefix_order.tokens": (TOKENS, lambda array: prefix_order(array, OFFSETS)),
    "prefix_order.offsets": (OFFSETS, lambda array: prefix_order(TOKENS, array)),
    "tree_rows.lengths": (LENGTHS, lambda array: tree_rows(array, ORDER, SHARED, 8)),
    "tree_rows.order": (ORDER, lambda array: tree_rows(LENGTHS, array, SHARED, 8)),
    "tree_rows.shared": (SHARED, lambda array: tree_rows(LENGTHS, ORDER, array, 8)),
    "Plan.lengths": (LENGTHS, lambda array: tree_plan(array, ORDER, SHARED)),
    "Plan.order": (ORDER, lambda array: tree_plan(LENGTHS, array, SHARED)),
    "Plan.shared": (SHARED, lambda array: tree_plan(LENGTHS, ORDER, array)),
}
NUMBERS = {
    "round_up.multiple": (8, lambda number: round_up(i32(3), number)),
    "choose_lengths.max_shapes": (2, lambda number: choose_lengths(i32(3), number)),
    "choose_lengths.multiple": (2, lambda number: choose_lengths(i32(3), 2, number)),
    "pack_rows.capacity": (6, lambda number: pack_rows(i32(4, 3), number, 8)),
    "pack_rows.max_segments": (8, lambda number: pack_rows(i32(4, 3), 6, number)),
    "multihost_remap.size": (8, lambda number: multihost_remap(number, 4, 2)),
    "multihost_remap.global_batch_size": (4, lambda number: multihost_remap(8, number, 2)),
    "multihost_remap.host_count": (2, lambda number: multihost_remap(8, 4, number)),
    "pad_rows.length": (4, lambda number: pad_rows(i32(7, 8), i64(0, 2), i64(0), number, 0)),
    "pad_rows.fill": (9, lambda number: pad_rows(i32(7, 8), i64(0, 2), i64(0), 4, number)),
    "tree_rows.capacity": (8, lambda number: tree_rows(LENGTHS, ORDER, SHARED, number)),
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
def test_read_only_arrays_are_accepted(argument, array, call):
    np.testing.assert_equal(call(read_only(array)), call(array))


@arrays
def test_arrays_are_not_changed(argument, array, call):
    before = array.copy()
    call(array)
    np.testing.assert_array_equal(array, before)


@arrays
@pytest.mark.parametrize("spoil", [strided, misaligned])
def test_layouts_that_need_a_copy_are_rejected(argument, array, call, spoil):
    spoiled = spoil(array)
    np.testing.assert_array_equal(spoiled, array)
    with pytest.raises(ValueError, match=f"^{argument} must be contiguous and aligned"):
        call(spoiled)


@arrays
@pytest.mark.parametrize("dtype", ["int16", "uint32", "uint64", "float32", "bool", "swapped", "other"])
def test_other_dtypes_are_rejected(argument, array, call, dtype):
    other = {"swapped": array.dtype.newbyteorder(), "other": "i8" if array.dtype == np.int32 else "i4"}
    with pytest.raises(TypeError, match=f"^{argument} must have dtype {array.dtype}, not "):
        call(array.astype(other.get(dtype, dtype)))


@arrays
def test_only_vectors_are_accepted(argument, array, call):
    with pytest.raises(TypeError, match=f"^{argument} must be a NumPy array of {array.dtype}, not list"):
        call(array.tolist())
    for shaped in (array[None], array[0:1].reshape(())):
        with pytest.raises(TypeError, match=f"^{argument} must have 1 dimension, not {shaped.ndim}"):
            call(shaped)


@arrays
def test_masked_arrays_are_rejected(argument, array, call):
    with pytest.raises(TypeError, match=f"^{argument} is a masked array, and its mask would be ignored"):
        call(np.ma.masked_array(array, np.zeros(array.shape, bool)))
    np.testing.assert_equal(call(array.view(np.recarray)), call(array))


@numbers
def test_integers_of_every_type_are_accepted(argument, number, call):
    np.testing.assert_equal(call(np.int64(number)), call(number))
    np.testing.assert_equal(call(np.uint8(number)), call(number))


@numbers
@pytest.mark.parametrize("wrong", [4.0, "4", None, [4]])
def test_only_integers_are_accepted(argument, number, call, wrong):
    with pytest.raises(TypeError, match=f"^{argument} must be an integer, not {type(wrong).__name__}"):
        call(wrong)


@numbers
@pytest.mark.parametrize("huge", [2**63, -(2**63) - 1, pytest.param(10**5000, id="too long to print")])
def test_integers_beyond_64_bits_are_rejected(argument, number, call, huge):
    with pytest.raises(ValueError, match=f"^{argument} does not fit in 64 bits"):
        call(huge)


@numbers
@pytest.mark.parametrize("negative", [-1, -(2**31) - 1, -(2**63)])
def test_negative_numbers_are_rejected_except_as_fill(argument, number, call, negative):
    if argument == "fill" and negative == -1:
        assert call(negative)[0, -1] == -1
        return
    with pytest.raises(ValueError, match=f"^{argument} is {negative}; it must "):
        call(negative)


@pytest.mark.parametrize("name", ["pack_rows.capacity", "pad_rows.length", "pad_rows.fill"])
def test_token_counts_beyond_32_bits_are_rejected(name):
    with pytest.raises(ValueError, match=f"^{name.split('.')[1]} is 2147483648; it must fit in int32"):
        NUMBERS[name][1](2**31)


def test_values_that_are_not_booleans_are_rejected():
    for wrong in (1, 0, "no", None):
        with pytest.raises(TypeError) as raised:
            length_order(i32(3), descending=wrong)
        kind = type(wrong).__name__
        assert str(raised.value) == f"descending must be True or False, not {kind}"
    assert length_order(i32(3, 5), descending=np.bool_(False)).tolist() == [0, 1]
