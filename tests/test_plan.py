"""The plan as Python has it: laws over NumPy arrays, pickling, immutability, and what is refused."""

import contextlib
import copy
import gc
import hashlib
import json
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow import Plan
from windrow.planning import group_identical, pad_rows


def i32(*values):
    return np.array(values, np.int32)


def i64(*values):
    return np.array(values, np.int64)


class Material:
    """Whole sequences, some with equal inputs, each with a last token and a scored stretch of its own."""

    def __init__(self, segments):
        inputs = [[100 * kind + at for at in range(length)] for length, kind, _, _ in segments]
        sequences = [[*tokens, last] for tokens, (_, _, last, _) in zip(inputs, segments, strict=True)]
        self.sequences = [np.array(tokens, np.int32) for tokens in sequences]
        self.tokens = np.concatenate([i32(), *self.sequences])
        self.offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
        self.lengths = (np.diff(self.offsets) - 1).astype(np.int32)
        self.score_starts = np.array([1 + at % length for length, _, _, at in segments], np.int32)
        flat = np.concatenate([i32(), *(np.array(tokens, np.int32) for tokens in inputs)])
        self.identities = group_identical(flat, self.offsets - np.arange(len(self.offsets)))


materials = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 2), st.integers(0, 300), st.integers(0, 29)),
    min_size=1,
    max_size=40,
).map(Material)

policies = st.fixed_dictionaries(
    {},
    optional={
        "max_shapes": st.none() | st.integers(1, 5),
        "padding_multiple": st.integers(1, 8),
        "shape_price": st.integers(0, 50),
        "pack": st.booleans(),
        "longest_first": st.booleans(),
    },
)
row_policies = st.sampled_from(
    [
        {"batch_size": 1},
        {"batch_size": 4, "row_multiple": 4},
        {"tokens_per_batch": 40},
        {"tokens_per_batch": 200, "row_multiple": 4},
    ]
)


@given(materials, policies, row_policies)
def test_laws(material, policy, rows):
    plan = Plan(material.lengths, material.identities, **policy, **rows)
    lengths, identities = material.lengths, material.identities
    for place in (plan.batches, plan.rows, plan.starts):
        assert (place == place[identities]).all(), "equal inputs share a row"
    holders = np.flatnonzero(identities == np.arange(len(identities)))
    batch_rows, batch_lengths = plan.batch_shapes.T
    assert (plan.starts + lengths <= batch_lengths[plan.batches]).all()
    assert (plan.rows < batch_rows[plan.batches]).all()
    assert len(plan) == len(plan.batch_shapes) == plan.batches.max() + 1
    if not policy.get("pack", False):
        places = np.stack([plan.batches[holders], plan.rows[holders]])
        assert len(np.unique(places, axis=1).T) == len(holders)
    if "tokens_per_batch" in rows:
        assert (batch_rows * batch_lengths <= rows["tokens_per_batch"]).all()
    assert (batch_rows % rows.get("row_multiple", 1) == 0).all()
    for batch in range(len(plan)):
        segments = np.flatnonzero(plan.batches == batch)
        expected = segments[np.lexsort([segments, plan.starts[segments], plan.rows[segments]])]
        np.testing.assert_array_equal(plan.batch_segments(batch), expected)
    seen, first = np.unique(plan.batch_shapes, axis=0, return_index=True)
    np.testing.assert_array_equal(plan.shapes, seen[np.argsort(first)])
    filled = len(np.unique(np.stack([plan.batches, plan.rows]), axis=1).T)
    assert plan.statistics == {
        "segments": len(lengths),
        "shared_segments": len(lengths) - len(holders),
        "rows": filled,
        "filler_rows": batch_rows.sum() - filled,
        "batches": len(plan),
        "real_tokens": lengths.sum(),
        "row_tokens": lengths[holders].sum(),
        "shared_tokens": lengths.sum() - lengths[holders].sum(),
        "device_tokens": (batch_rows * batch_lengths).sum(),
        "padding_tokens": (batch_rows * batch_lengths).sum() - lengths[holders].sum(),
        "shapes": plan.shapes.tolist(),
    }


@given(materials, policies, row_policies)
def test_a_batch_is_padded_as_numpy_pads_it(material, policy, rows):
    plan = Plan(material.lengths, material.identities, **policy | {"pack": False}, **rows)
    tokens, offsets = material.tokens, material.offsets
    for batch, shape in enumerate(plan.batch_shapes):
        inputs, targets = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
        segment_ids, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for row, segment in enumerate(plan.batch_rows(batch)):
            if segment >= 0:
                sequence = material.sequences[segment]
                inputs[row, : len(sequence) - 1] = sequence[:-1]
                targets[row, : len(sequence) - 1] = sequence[1:]
                segment_ids[row, : len(sequence) - 1] = 1
                positions[row, : len(sequence) - 1] = np.arange(len(sequence) - 1)
        np.testing.assert_array_equal(plan.inputs(batch, tokens, offsets, fill=-1), inputs)
        np.testing.assert_array_equal(plan.targets(batch, tokens, offsets, fill=-1), targets)
        np.testing.assert_array_equal(plan.segment_ids(batch), segment_ids)
        np.testing.assert_array_equal(plan.positions(batch), positions)
        np.testing.assert_array_equal(plan.row_lengths(batch), segment_ids.sum(axis=1))
        half = shape[0] // 2
        np.testing.assert_array_equal(plan.inputs(batch, tokens, offsets, half, fill=-1), inputs[half:])
        np.testing.assert_array_equal(plan.row_lengths(batch, 0, half), segment_ids[:half].sum(axis=1))
        assert plan.segment_ids(batch, half, half).shape == (0, shape[1])


def test_pad_rows_takes_batch_rows():
    material = Material([(3, 0, 1, 0), (5, 1, 2, 0), (3, 2, 3, 0)])
    plan = Plan(material.lengths, batch_size=2)
    inputs = np.concatenate([sequence[:-1] for sequence in material.sequences])
    padded = pad_rows(inputs, material.offsets - np.arange(4), plan.batch_rows(1), plan.shapes[0, 1], 0)
    np.testing.assert_array_equal(padded, plan.inputs(1, material.tokens, material.offsets))
    np.testing.assert_array_equal(plan.batch_rows(1), [2, -1])


@given(materials, policies, st.sampled_from([1, 2, 4]), st.integers(1, 8))
def test_scores_read_from_a_batch_are_those_of_each_segment(material, policy, groups, multiple):
    """A made-up model whose logits depend on the whole prefix, scored token by token and through the plan."""
    plan = Plan(material.lengths, material.identities, **policy, batch_size=8)
    tokens, offsets, score_starts = material.tokens, material.offsets, material.score_starts
    capacities = plan.read_capacities(offsets, score_starts, groups, multiple)
    assert (capacities % multiple == 0).all()
    found = {}
    for batch, (rows, length) in enumerate(plan.batch_shapes):
        picks, reads = capacities[np.flatnonzero((plan.shapes == (rows, length)).all(axis=1))[0]]
        pick_index, read_pick, read_target = plan.reads(
            batch, tokens, offsets, score_starts, groups, picks, reads
        )
        inputs, positions = plan.inputs(batch, tokens, offsets), plan.positions(batch)
        hidden = (inputs.astype(np.int64) * 31 + positions).reshape(groups, -1)
        picked = np.take_along_axis(hidden, pick_index, axis=1)
        values = np.take_along_axis(picked, read_pick, axis=1) * 1000 + read_target
        spans = plan.read_spans(batch, score_starts, groups, reads)
        for segment, (begin, end) in zip(plan.batch_segments(batch), spans, strict=True):
            found[int(segment)] = values.ravel()[begin:end].tolist()
        part = plan.reads(
            batch, tokens, offsets, score_starts, groups, picks, reads, row_start=rows - rows // groups
        )
        np.testing.assert_array_equal(part[2], read_target[-1:])
    for segment, (sequence, start) in enumerate(zip(material.sequences, score_starts, strict=True)):
        before = np.arange(start - 1, len(sequence) - 1)
        expected = (sequence[before].astype(np.int64) * 31 + before) * 1000 + sequence[start:]
        assert found[segment] == expected.tolist()


@given(materials, policies, row_policies)
@settings(max_examples=30)
def test_a_pickled_plan_is_the_same(material, policy, rows):
    plan = Plan(material.lengths, material.identities, **policy, **rows)
    for again in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert again == plan
        assert hash(again) == hash(plan)
        assert again.to_dict() == plan.to_dict()
        np.testing.assert_array_equal(again.batches, plan.batches)
        np.testing.assert_array_equal(again.rows, plan.rows)
        np.testing.assert_array_equal(again.starts, plan.starts)


def test_a_pickle_is_small():
    lengths = np.random.default_rng(0).integers(1, 1000, 10_000, np.int32)
    assert len(pickle.dumps(Plan(lengths, batch_size=64))) < 2.1 * len(lengths)


def test_a_damaged_pickle_is_refused():
    make, (stored,) = Plan(i32(1, 2), batch_size=1).__reduce__()
    assert make(stored) == Plan(i32(1, 2), batch_size=1)
    with pytest.raises(ValueError, match="make the plan again"):
        make(stored[:-1])


def test_equality_and_hash():
    plan = Plan(i32(3, 1), batch_size=2)
    assert plan == Plan(i32(3, 1), batch_size=2)
    assert plan != Plan(i32(3, 1), batch_size=2, longest_first=False)
    assert plan != Plan(i32(3, 2), batch_size=2)
    assert plan != "plan"
    assert len({plan, Plan(i32(3, 1), batch_size=2)}) == 1
    assert Plan(i32(3, 3), i64(0, 0), batch_size=2) != Plan(i32(3, 3), i64(0, 1), batch_size=2)
    assert Plan(i32(3, 3), i64(0, 1), batch_size=2) == Plan(i32(3, 3), batch_size=2)


def test_fingerprint_is_the_same_on_every_platform():
    """Should this fail, other hosts' and stored plans are taken for different ones."""
    plan = Plan(i32(5, 1, 3, 5, 2), i64(0, 1, 2, 0, 4), batch_size=2, shape_price=4096)
    assert plan.fingerprint == "85b7946316bba392"


def test_nothing_about_a_plan_changes():
    lengths = i32(3, 1, 2)
    plan = Plan(lengths, batch_size=2)
    for name in ("batches", "rows", "starts", "lengths", "shapes", "batch_shapes"):
        array = getattr(plan, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
        with pytest.raises(AttributeError):
            setattr(plan, name, array)
        assert np.shares_memory(array, getattr(plan, name)), "handed out, not made again"
    with pytest.raises(ValueError, match="WRITEABLE"):
        plan.batches.flags.writeable = True
    lengths[:] = 9
    np.testing.assert_array_equal(plan.lengths, [3, 1, 2])
    plan.statistics["rows"] = 9
    assert plan.statistics["rows"] == 3


def test_arrays_outlive_their_plan():
    lengths = np.arange(1, 100_001, dtype=np.int32)
    plan = Plan(lengths, batch_size=1, max_shapes=1)
    batches, kept = plan.batches, plan.batches.copy()
    del plan
    gc.collect()
    np.testing.assert_array_equal(batches, kept)
    np.testing.assert_array_equal(batches, np.arange(100_000)[::-1])


def test_what_it_says_of_itself():
    plan = Plan(i32(3, 1, 2, 3), i64(0, 1, 2, 0), tokens_per_batch=8, row_multiple=2, shape_price=0)
    assert json.loads(json.dumps(plan.to_dict())) == {
        "policy": {
            "tokens_per_batch": 8,
            "row_multiple": 2,
            "max_shapes": 8,
            "padding_multiple": 1,
            "shape_price": 0,
            "pack": False,
            "longest_first": True,
        },
        "statistics": plan.statistics,
        "fingerprint": plan.fingerprint,
    }
    assert str(plan).splitlines()[0] == f"Plan {plan.fingerprint}: 4 segments in 3 rows, 2 batches"
    assert repr(plan) == f"<Plan {plan.fingerprint}: 4 segments, 2 batches, 1 shapes>"
    assert (plan.segment_count, plan.packed) == (4, False)


@pytest.mark.parametrize("pack", [False, True])
def test_no_segments(pack):
    plan = Plan(i32(), i64(), batch_size=4, pack=pack)
    assert len(plan) == 0
    assert plan.shapes.shape == plan.batch_shapes.shape == (0, 2)
    assert plan.batches.shape == plan.rows.shape == plan.starts.shape == (0,)
    assert plan.statistics["device_tokens"] == 0
    assert plan.read_capacities(i64(0), i32(), 1, 1).shape == (0, 2)
    with pytest.raises(IndexError, match="batch is 0; it must be one of the plan's 0 batches"):
        plan.batch_segments(0)


def test_one_segment_and_one_without_tokens():
    assert Plan(i32(7), batch_size=4).batch_shapes.tolist() == [[4, 7]]
    assert Plan(i32(0), batch_size=4).batch_shapes.tolist() == [[4, 1]]
    assert Plan(i32(7), tokens_per_batch=100).batch_shapes.tolist() == [[1, 7]]


def test_padded_lengths_from_a_list_or_an_array():
    lengths = i32(3, 9, 4, 16, 1)
    plan = Plan(lengths, batch_size=1, padded_lengths=[4, 16, 64])
    assert plan.shapes.tolist() == [[1, 16], [1, 4]]
    assert plan == Plan(lengths, batch_size=1, padded_lengths=i32(4, 16, 64))
    assert plan.to_dict()["policy"]["padded_lengths"] == [4, 16, 64]


def test_rows_double_as_lengths_halve():
    lengths = np.repeat(i32(64, 32, 16), [8, 8, 16])
    plan = Plan(lengths, tokens_per_batch=256, max_shapes=None)
    assert plan.shapes.tolist() == [[4, 64], [8, 32], [16, 16]]
    assert plan.statistics["padding_tokens"] == 0


def test_packed_rows():
    plan = Plan(i32(4, 3, 2, 3), batch_size=2, pack=True, padded_lengths=[6])
    np.testing.assert_array_equal(plan.rows, [0, 1, 0, 1])
    np.testing.assert_array_equal(plan.starts, [0, 0, 4, 3])
    np.testing.assert_array_equal(plan.segment_ids(0), [[1, 1, 1, 1, 2, 2], [1, 1, 1, 2, 2, 2]])
    np.testing.assert_array_equal(plan.positions(0), [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]])
    np.testing.assert_array_equal(plan.batch_rows(0), [0, 1])


def test_arrays_as_they_come():
    lengths = np.arange(1, 21, dtype=np.int32)
    plan = Plan(lengths, batch_size=4)
    frozen = lengths.copy()
    frozen.flags.writeable = False
    assert Plan(frozen, batch_size=4) == plan
    misaligned = np.frombuffer(b"\0" + lengths.tobytes(), np.int32, offset=1)
    for refused in (np.repeat(lengths, 2)[::2], misaligned):
        with pytest.raises(ValueError, match="lengths must be contiguous and aligned"):
            Plan(refused, batch_size=4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "give exactly one of batch_size and tokens_per_batch"),
        ({"batch_size": 2, "tokens_per_batch": 9}, ValueError, "give exactly one of"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 2**70}, ValueError, "batch_size is 9223372036854775807; it must be at"),
        ({"batch_size": -(2**70)}, ValueError, "batch_size is -9223372036854775808; it must be"),
        ({"batch_size": 2**30}, ValueError, "batch_size is 1073741824; it must be at most 429496729, "),
        ({"batch_size": 2.0}, TypeError, "batch_size"),
        ({"batch_size": "2"}, TypeError, "batch_size"),
        ({"batch_size": 2, "row_multiple": 4}, ValueError, "batch_size is 2; it must be a multiple of"),
        ({"batch_size": 2, "row_multiple": 0}, ValueError, "row_multiple is 0; it must be at least 1"),
        ({"batch_size": 2, "row_multiple": None}, TypeError, "row_multiple"),
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
        ({"batch_size": 2, "padded_lengths": [2**40]}, ValueError, "is 1099511627776; it must fit i32"),
        ({"batch_size": 2, "padded_lengths": i64(8)}, TypeError, "padded_lengths must have dtype int32"),
        ({"batch_size": 2, "padded_lengths": 8}, TypeError, "padded_lengths must be a sequence of integers"),
        ({"batch_size": 2, "padded_lengths": [8], "padding_multiple": 4}, ValueError, "give either padded"),
        ({"batch_size": 2, "lengths": [3, 5]}, TypeError, r"lengths must be a NumPy array of int32"),
        ({"batch_size": 2, "lengths": i64(3, 5)}, TypeError, "lengths must have dtype int32, not int64"),
        ({"batch_size": 2, "lengths": i32([3, 5])}, TypeError, "lengths must have 1 dimension, not 2"),
        ({"batch_size": 2, "lengths": i32(3, -5)}, ValueError, r"lengths\[1\] is -5; it must be at least 0"),
        ({"batch_size": 2, "identities": i32(0, 1)}, TypeError, "identities must have dtype int64"),
        ({"batch_size": 2, "identities": i64(0)}, ValueError, "identities has 1 elements; it must have 2"),
        ({"batch_size": 2, "identities": i64(1, 1)}, ValueError, r"identities\[0\] is 1; it must be at"),
        ({"batch_size": 2, "identities": i64(0, 0)}, ValueError, r"identities\[1\] is 0; .* the same length"),
        ({"batch_size": 2, "identities": i64(0, 2**40)}, ValueError, r"identities\[1\] is 1099511627776"),
    ],
)  # fmt: skip
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        Plan(**{"lengths": i32(3, 5)} | arguments)


def test_lengths_near_the_end_of_int32():
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
        (lambda plan, m: plan.batch_rows("0"), TypeError, "batch"),
        (lambda plan, m: plan.row_lengths(0, 3), ValueError, "row_start is 3; it must be at least 0"),
        (lambda plan, m: plan.segment_ids(0, 0, 3), ValueError, "row_stop is 3; it must be at least 0"),
        (lambda plan, m: plan.positions(0, 2, 1), ValueError, "row_start is 2; it must be at least 0 and"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets[:-1]), ValueError, "offsets has 3 elements"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets + 1), ValueError, r"offsets\[3\] is 14; .* 13"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets * 2), ValueError, r"offsets\[3\] is 26; .* exac"),
        (lambda plan, m: plan.inputs(0, m.offsets, m.offsets), TypeError, "tokens must have dtype int32"),
        (lambda plan, m: plan.inputs(0, m.tokens, m.offsets, fill=2**31), ValueError, "fill is 2147483648"),
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
def test_batch_refusals(call, error, message):
    material = Material([(3, 0, 1, 1), (2, 1, 2, 0), (5, 2, 3, 1)])
    with pytest.raises(error, match=message):
        call(Plan(material.lengths, batch_size=2), material)


def test_arrays_that_another_thread_writes_to_do_no_harm():
    material = Material([(length, 0, 1, 0) for length in range(1, 60)] * 3)
    plan = Plan(material.lengths, material.identities, batch_size=8)
    lengths, identities = material.lengths.copy(), material.identities.copy()
    stop = threading.Event()

    def scribble():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            for array in (lengths, identities, material.offsets, material.score_starts):
                at = rng.integers(len(array))
                before = array[at]
                array[at] = rng.choice([-1, 0, 1, 2, before - 1, before + 1, 2**31 - 1])
                array[at] = before

    thread = threading.Thread(target=scribble)
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


STORED = [
    (0, 9, None, {"batch_size": 4}, "cf6e618872016651", "77b93cb4b0e97142"),
    (100, 50, None, {"batch_size": 8}, "d64b436e2d2b859c", "85399fc3f060cf21"),
    (
        100,
        50,
        None,
        {"batch_size": 8, "pack": True, "shape_price": 0},
        "b03c7a07763281b5",
        "24a7b22683aa3751",
    ),
    (
        100,
        50,
        4,
        {"batch_size": 8, "row_multiple": 4, "max_shapes": 3},
        "052a94522f23b8bf",
        "13c7546fc6d15419",
    ),
    (
        1000,
        300,
        3,
        {"batch_size": 16, "max_shapes": None, "padding_multiple": 64},
        "4b590c365de72e56",
        "22e86c0241c53848",
    ),
    (
        1000,
        300,
        None,
        {"batch_size": 16, "padded_lengths": [100, 300], "longest_first": False},
        "8e34d9ccba4ed289",
        "7281a0b7c5acde1e",
    ),
    (999, 37, 2, {"batch_size": 5, "pack": True, "max_segments": 3}, "58557b53d44ce9c3", "44e2470d68a539ef"),
    (64, 32, None, {"tokens_per_batch": 256, "padded_lengths": [32]}, "4d40edd9d5e642c0", "420f23783553624b"),
    (
        4096,
        128,
        None,
        {"tokens_per_batch": 16384, "padded_lengths": [128]},
        "f81c52a7b5d73edb",
        "916842fe5f579d5e",
    ),
    (
        128,
        16,
        None,
        {"tokens_per_batch": 128, "row_multiple": 8, "padded_lengths": [16]},
        "9eddc75f0827c106",
        "d454fefddf0554f7",
    ),
]


@pytest.mark.parametrize(("count", "most", "together", "policy", "fingerprint", "digest"), STORED)
def test_stored_plans_stay_what_they_are(count, most, together, policy, fingerprint, digest):
    """Should this fail, plans are no longer those that other hosts and stored bytes take them for."""
    lengths = (np.arange(count) * 7919 % most + 1).astype(np.int32)
    identities = None
    if together:
        identities = np.arange(count) // together * together
        lengths = lengths[identities]
    plan = Plan(lengths, identities, **policy)
    stored = plan.__reduce__()[1][0]
    assert (plan.fingerprint, hashlib.sha256(stored).hexdigest()[:16]) == (fingerprint, digest)
