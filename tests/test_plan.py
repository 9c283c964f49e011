"""Plans in Python: properties checked with NumPy, immutability, and small examples."""

import gc
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from int_arrays import i32, i64
from plan_material import Material, materials, policies, row_policies
from windrow import Plan
from windrow.planning import pad_rows


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
def test_batches_match_numpy_padding(material, policy, rows):
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


def test_pad_rows_accepts_batch_rows():
    material = Material([(3, 0, 1, 0), (5, 1, 2, 0), (3, 2, 3, 0)])
    plan = Plan(material.lengths, batch_size=2)
    inputs = np.concatenate([sequence[:-1] for sequence in material.sequences])
    padded = pad_rows(inputs, material.offsets - np.arange(4), plan.batch_rows(1), plan.shapes[0, 1], 0)
    np.testing.assert_array_equal(padded, plan.inputs(1, material.tokens, material.offsets))
    np.testing.assert_array_equal(plan.batch_rows(1), [2, -1])


@given(materials, policies, st.sampled_from([1, 2, 4]), st.integers(1, 8))
def test_batch_reads_match_each_segment(material, policy, groups, multiple):
    """A made-up model's logits, functions of token and position, are read directly and through the plan."""
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


def test_plans_are_immutable():
    lengths = i32(3, 1, 2)
    plan = Plan(lengths, batch_size=2)
    for name in ("batches", "rows", "starts", "lengths", "shapes", "batch_shapes"):
        array = getattr(plan, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
        with pytest.raises(AttributeError):
            setattr(plan, name, array)
        assert np.shares_memory(array, getattr(plan, name)), "the same array, not a copy"
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


def test_dictionary_and_text():
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
    assert repr(plan) == f"<Plan {plan.fingerprint}: 4 segments, 2 batches, 1 shape>"
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


def test_rows_double_when_lengths_halve():
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
