"""Stored and compared plans: pickles, equality, fingerprints, and their bytes."""

import copy
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings

from int_arrays import i32, i64
from plan_material import materials, policies, row_policies
from windrow import Plan


@given(materials, policies, row_policies)
@settings(max_examples=30)
def test_plan_survives_pickling(material, policy, rows):
    plan = Plan(material.lengths, material.identities, **policy, **rows)
    for again in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert again == plan
        assert hash(again) == hash(plan)
        assert again.to_dict() == plan.to_dict()
        np.testing.assert_array_equal(again.batches, plan.batches)
        np.testing.assert_array_equal(again.rows, plan.rows)
        np.testing.assert_array_equal(again.starts, plan.starts)


def test_pickle_is_small():
    lengths = np.random.default_rng(0).integers(1, 1000, 10_000, np.int32)
    assert len(pickle.dumps(Plan(lengths, batch_size=64))) < 2.1 * len(lengths)


def test_damaged_pickle_is_rejected():
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


def test_fingerprints_are_stable():
    """If this fails, plans differ from stored ones, and from those of hosts with another version."""
    plan = Plan(i32(5, 1, 3, 5, 2), i64(0, 1, 2, 0, 4), batch_size=2, shape_price=4096)
    assert plan.fingerprint == "85b7946316bba392"


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
def test_plans_and_their_bytes_are_stable(count, most, together, policy, fingerprint, digest):
    """If this fails, plans and their bytes differ from stored ones, and from those of another version."""
    lengths = (np.arange(count) * 7919 % most + 1).astype(np.int32)
    identities = None
    if together:
        identities = np.arange(count) // together * together
        lengths = lengths[identities]
    plan = Plan(lengths, identities, **policy)
    stored = plan.__reduce__()[1][0]
    assert (plan.fingerprint, hashlib.sha256(stored).hexdigest()[:16]) == (fingerprint, digest)
