"""Rejected arguments of a plan and its batches, and extreme numbers and arrays."""

import contextlib
import threading

import numpy as np
import pytest

from int_arrays import i32, i64, misaligned, read_only, strided
from plan_material import Material
from windrow import Plan


def test_array_layouts():
    lengths = np.arange(1, 21, dtype=np.int32)
    plan = Plan(lengths, batch_size=4)
    assert Plan(read_only(lengths), batch_size=4) == plan
    for spoiled in (strided(lengths), misaligned(lengths)):
        with pytest.raises(ValueError, match="lengths must be contiguous and aligned"):
            Plan(spoiled, batch_size=4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "give exactly one of batch_size and tokens_per_batch"),
        ({"batch_size": 2, "tokens_per_batch": 9}, ValueError, "give exactly one of"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 2**70}, ValueError, "batch_size is 9223372036854775807; it must be at"),
        ({"batch_size": -(2**70)}, ValueError, "batch_size is -9223372036854775808; it must be"),
        ({"batch_size": 2**30}, ValueError, "batch_size is 1073741824; it must be at most 429496729, "),
        ({"batch_size": 2.0}, TypeError, "^batch_size must be an integer, not float"),
        ({"batch_size": "2"}, TypeError, "^batch_size must be an integer, not str$"),
        ({"batch_size": 2, "row_multiple": 4}, ValueError, "batch_size is 2; it must be a multiple of"),
        ({"batch_size": 2, "row_multiple": 0}, ValueError, "row_multiple is 0; it must be at least 1"),
        ({"batch_size": 2, "row_multiple": None}, TypeError, "^row_multiple must be an integer, not None"),
        ({"tokens_per_batch": "auto"}, TypeError, "^tokens_per_batch must be an integer, not str$"),
        ({"batch_size": 2, "max_shapes": 1.5}, TypeError, "^max_shapes must be an integer, not float$"),
        ({"batch_size": 2, "padding_multiple": "8"}, TypeError, "^padding_multiple must be an integer"),
        ({"batch_size": 2, "shape_price": None}, TypeError, "^shape_price must be an integer, not NoneT"),
        ({"batch_size": 2, "pack": True, "max_segments": "2"}, TypeError, "^max_segments must be an integer"),
        ({"batch_size": 2, "pack": "auto"}, TypeError, "^pack must be True or False, not str$"),
        ({"batch_size": 2, "longest_first": None}, TypeError, "^longest_first must be True or Fal"),
        ({"tokens_per_batch": 4}, ValueError, "tokens_per_batch is 4; it must be at least 5, row"),
        ({"tokens_per_batch": 9, "row_multiple": 2}, ValueError, "it must be at least 10, row_multiple rows"),
        ({"batch_size": 2, "max_shapes": 0}, ValueError, "max_shapes is 0; it must be at least 1"),
        ({"batch_size": 2, "padding_multiple": 0}, ValueError, "padding_multiple is 0; it must be at least"),
        ({"batch_size": 2, "shape_price": -1}, ValueError, "shape_price is -1; it must be at least 0"),
        (
            {"batch_size": 2, "max_segments": 2},
            ValueError,
            "max_segments applies only to packed rows; give pack",
        ),
        ({"batch_size": 2, "max_segments": 0, "pack": True}, ValueError, "max_segments is 0; it must be at"),
        ({"batch_size": 2, "padded_lengths": []}, ValueError, "padded_lengths has 0 elements"),
        ({"batch_size": 2, "padded_lengths": [5, 4]}, ValueError, r"padded_lengths\[1\] is 4; it must be"),
        ({"batch_size": 2, "padded_lengths": [2, 4]}, ValueError, r"lengths\[1\] is 5; it must be at most 4"),
        (
            {"batch_size": 2, "padded_lengths": [2**40]},
            ValueError,
            r"^padded_lengths\[0\] is 1099511627776; it must fit in int32$",
        ),
        ({"batch_size": 2, "padded_lengths": i64(8)}, TypeError, "padded_lengths must have dtype int32"),
        ({"batch_size": 2, "padded_lengths": [8, 9.5]}, TypeError, r"^padded_lengths\[1\] must be an int"),
        ({"batch_size": 2, "padded_lengths": 8}, TypeError, "padded_lengths must be a sequence of integers"),
        ({"batch_size": 2, "padded_lengths": [8], "padding_multiple": 4}, ValueError, "give either padded"),
        ({"batch_size": 2, "lengths": [3, 5]}, TypeError, r"lengths must be a NumPy array of int32"),
        ({"batch_size": 2, "lengths": i64(3, 5)}, TypeError, "lengths must have dtype int32, not int64"),
        ({"batch_size": 2, "lengths": i32([3, 5])}, TypeError, "lengths must have 1 dimension, not 2"),
        ({"batch_size": 2, "lengths": i32(3, -5)}, ValueError, r"lengths\[1\] is -5; it must be at least 0"),
        ({"batch_size": 2, "identities": i32(0, 1)}, TypeError, "identities must have dtype int64"),
        ({"batch_size": 2, "identities": i64(0)}, ValueError, "identities has 1 element; it must have 2"),
        ({"batch_size": 2, "identities": i64(1, 1)}, ValueError, r"identities\[0\] is 1; it must be at"),
        ({"batch_size": 2, "identities": i64(0, 0)}, ValueError, r"identities\[1\] is 0; .* the same length"),
        ({"batch_size": 2, "identities": i64(0, 2**40)}, ValueError, r"identities\[1\] is 1099511627776"),
    ],
)  # fmt: skip
def test_rejected_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Plan(**{"lengths": i32(3, 5)} | arguments)


def test_lengths_near_the_maximum_of_int32():
    top = 2**31 - 1
    plan = Plan(i32(top, top - 1, 0), batch_size=1, shape_price=0)
    assert plan.statistics["real_tokens"] == 2 * top - 1
    assert plan.batch_shapes.tolist() == [[1, top], [1, top - 1], [1, 1]]
    with pytest.raises(ValueError, match=r"lengths\[0\] is 2147483647; it must be at most 2147483640"):
        Plan(i32(top), batch_size=1, padding_multiple=8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda plan, m: plan.batch_segments(-1), IndexError, "batch is -1; it must be one of"),
        (lambda plan, m: plan.batch_segments(2), IndexError, "batch is 2; it must be one of the plan's 2"),
        (lambda plan, m: plan.batch_rows(2**80), IndexError, "batch is"),
        (lambda plan, m: plan.batch_rows("0"), TypeError, "^batch must be an integer, not str$"),
        (lambda plan, m: plan.positions(0, None), TypeError, "^row_start must be an integer, not NoneType$"),
        (lambda plan, m: plan.positions(0, 0, "1"), TypeError, "^row_stop must be an integer, not str$"),
        (lambda plan, m: plan.row_lengths(0, 3), ValueError, "row_start is 3; it must be at least 0"),
        (lambda plan, m: plan.segment_ids(0, 0, 3), ValueError, "row_stop is 3; it must be at least 0"),
        (lambda plan, m: plan.positions(0, 2, 1), ValueError, "row_start is 2; it must be at least 0 and"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets[:-1]), ValueError, "offsets has 3 elements"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets + 1), ValueError, r"offsets\[3\] is 14; .* 13"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets * 2), ValueError, r"offsets\[3\] is 26; .* exac"),
        (lambda plan, m: plan.inputs(0, m.offsets, m.offsets), TypeError, "tokens must have dtype int32"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets, fill=2**31), ValueError,
         "^fill is 2147483648; it must fit in int32$"),
        (lambda plan, m: plan.reads(0, m.tokens, m.offsets, m.score_starts, 3, 9, 9), ValueError, "groups"),
        (lambda plan, m: plan.reads(0, m.tokens, m.offsets, m.score_starts, 1, 1, 9), ValueError,
         "pick_capacity is 1; it must be at least 6"),
        (lambda plan, m: plan.reads(0, m.tokens, m.offsets, m.score_starts, 1, 9, -1), ValueError,
         "read_capacity is -1"),
        (lambda plan, m: plan.reads(0, m.tokens, m.offsets, m.score_starts * 9, 1, 9, 9), ValueError,
         r"score_starts\[2\] is 18; it must be at least 1 and at most 5"),
        (lambda plan, m: plan.reads(0, m.tokens, m.offsets, m.score_starts, 1, 9, 9, row_start=1), ValueError,
         "row_start is 1; it must be a multiple of 2, the rows of a group"),
        (lambda plan, m: plan.read_spans(0, m.score_starts, 1, 1), ValueError, "read_capacity is 1; it must"),
        (lambda plan, m: plan.read_capacities(m.offsets, m.score_starts, 1, 0), ValueError, "multiple is 0"),
        (lambda plan, m: plan.read_capacities(m.offsets, m.score_starts, 5, 1), ValueError, "groups is 5"),
        (lambda plan, m: plan.read_capacities(m.offsets, m.score_starts - 1, 1, 1), ValueError,
         r"score_starts\[1\] is 0"),
    ],
)  # fmt: skip
def test_rejected_arguments_of_batches(call, error, message):
    material = Material([(3, 0, 1, 1), (2, 1, 2, 0), (5, 2, 3, 1)])
    with pytest.raises(error, match=message):
        call(Plan(material.lengths, batch_size=2), material)


def test_arrays_written_by_another_thread_are_harmless():
    material = Material([(length, 0, 1, 0) for length in range(1, 60)] * 3)
    plan = Plan(material.lengths, material.identities, batch_size=8)
    lengths, identities = material.lengths.copy(), material.identities.copy()
    stop = threading.Event()

    def overwrite():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            for array in (lengths, identities, material.offsets, material.score_starts):
                at = rng.integers(len(array))
                before = array[at]
                array[at] = rng.choice([-1, 0, 1, 2, before - 1, before + 1, 2**31 - 1])
                array[at] = before

    thread = threading.Thread(target=overwrite)
    thread.start()
    try:
        for _ in range(2000):
            for call in (
                lambda: Plan(lengths, identities, tokens_per_batch=2**20, pack=True),
                lambda: plan.reads(0, material.tokens, material.offsets, material.score_starts, 2, 999, 999),
                lambda: plan.read_capacities(material.offsets, material.score_starts, 2, 8),
            ):
                with contextlib.suppress(ValueError):
                    call()
    finally:
        stop.set()
        thread.join()
