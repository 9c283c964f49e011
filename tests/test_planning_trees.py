"""Prefix trees in Python: order, rows, plans, batches, and rejected arguments.

The core's own property tests are in ``prefix.rs`` and ``plan_trees.rs``.
"""

import json
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from int_arrays import i32, i64
from prefix_bound import least_row_tokens
from windrow import Plan
from windrow.datasets import HostBatchDataset, IndexedBatchDataset, Sequences
from windrow.planning import group_identical, pack_rows, prefix_order, token_lengths, tree_rows
from windrow.sharding import HostShare

TOKENS, OFFSETS = i32(1, 2, 3, 5, 6, 8, 9, 1, 2, 3, 4, 1, 2, 7, 8, 9), i64(0, 5, 7, 11, 14, 16)
"""a b c e f, h i, a b c d, a b g, h i."""
LENGTHS, ORDER, SHARED = i32(5, 2, 4, 3, 2), i64(2, 0, 3, 1, 4), i32(0, 3, 2, 0, 2)


def test_results_are_new_writable_arrays():
    order, shared = prefix_order(TOKENS, OFFSETS)
    assert (order.dtype, shared.dtype) == (np.int64, np.int32)
    dtypes = [array.dtype for array in tree_rows(LENGTHS, ORDER, SHARED, 8)]
    assert dtypes == [np.int64, np.int32, np.int32, np.int64]
    assert all(array.flags.owndata and array.flags.writeable for array in (order, shared))


def test_no_segments():
    order, shared = prefix_order(i32(), i64(0))
    assert order.shape == shared.shape == (0,)
    assert [array.shape for array in tree_rows(i32(), order, shared, 0)] == [(0,)] * 4
    plan = Plan(i32(), prefixes=(order, shared), batch_size=4)
    assert len(plan) == 0
    assert plan.trees


def test_capacity_may_be_any_integer_type():
    for capacity in (8, np.int64(8), np.uint8(8)):
        np.testing.assert_array_equal(tree_rows(LENGTHS, ORDER, SHARED, capacity)[0], [0, 1, 0, 0, 1])
    with pytest.raises(ValueError, match=r"^capacity is 2147483648; it must fit in int32"):
        tree_rows(LENGTHS, ORDER, SHARED, 2**31)
    with pytest.raises(ValueError, match=r"^lengths\[0\] is 5; it must be at most capacity, which is 4"):
        tree_rows(LENGTHS, ORDER, SHARED, 4)


segments = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=30)


def as_sequences(inputs):
    """Sequences of the inputs and one more token each, with about two tokens at the end scored."""
    whole = [[*tokens, 50 + number] for number, tokens in enumerate(inputs)]
    offsets = np.cumsum([0, *map(len, whole)])
    starts = np.array([max(1, len(tokens) - number % 3) for number, tokens in enumerate(inputs)], np.int32)
    return Sequences(np.concatenate(whole).astype(np.int32), offsets, starts, np.arange(len(inputs)))


def flat(inputs):
    return np.concatenate(inputs).astype(np.int32), np.cumsum([0, *map(len, inputs)])


@given(segments)
def test_prefix_order_matches_python_sorting(inputs):
    order, shared = prefix_order(*flat(inputs))
    assert order.tolist() == sorted(range(len(inputs)), key=lambda segment: (inputs[segment], segment))
    equal = np.r_[False, (shared[1:] == token_lengths(flat(inputs)[1])[order][1:])]
    equal[1:] &= np.diff(token_lengths(flat(inputs)[1])[order]) == 0
    first = group_identical(*flat(inputs))
    np.testing.assert_array_equal(equal[1:], first[order][1:] == first[order][:-1])


@given(segments, st.sampled_from([1, 2, 4]), st.booleans())
def test_batches_score_each_segment_along_its_path(inputs, groups, halves):
    """With a made-up model whose logits depend on every token of the path and its position."""
    sequences = as_sequences(inputs)
    prefixes = prefix_order(*flat(inputs))
    plan = Plan(sequences.lengths(), prefixes=prefixes, padded_lengths=[9, 24], batch_size=4)
    share = HostShare((0, 1), 2) if halves and groups > 1 else None
    dataset = HostBatchDataset(plan, sequences, share, groups)
    found = {}
    for batch in dataset:
        length = batch.inputs.shape[1]
        i, j = np.arange(length)[:, None], np.arange(length)
        sees = (j <= i) & (i < batch.reach[:, None, :])
        seen = (batch.inputs + 3) * (batch.positions + 1) ** 2
        assert (sees.sum(-1) == np.where(batch.segment_ids > 0, batch.positions + 1, 1)).all()
        states = (sees * seen[:, None, :]).sum(-1).reshape(groups, -1)
        for group in range(groups):
            for pick, target, request in zip(
                batch.read_pick[group], batch.read_target[group], batch.read_request[group], strict=True
            ):
                if request >= 0:
                    score = states[group, batch.pick_index[group, pick]] * 100 + target
                    found.setdefault(int(request), []).append(int(score))
    for number, tokens in enumerate(inputs):
        seen = np.cumsum((np.array(tokens) + 3) * np.arange(1, len(tokens) + 1) ** 2)
        whole = [*tokens, 50 + number]
        start = int(sequences.score_starts[number])
        assert found[number] == [seen[at - 1] * 100 + whole[at] for at in range(start, len(whole))]


def test_attributes_of_a_plan_with_trees():
    plan = Plan(LENGTHS, prefixes=(ORDER, SHARED), padded_lengths=[8], tokens_per_batch=16)
    assert plan.trees
    assert plan.packed
    for name, expected in (
        ("batches", [0, 0, 0, 0, 0]),
        ("rows", [0, 1, 0, 0, 1]),
        ("starts", [4, 0, 0, 6, 0]),
        ("own", [3, 0, 0, 2, 0]),
        ("parents", [2, -1, -1, 2, -1]),
    ):
        array = getattr(plan, name)
        assert array.dtype == np.int32
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, expected)
    assert plan.statistics == {
        "segments": 5,
        "shared_segments": 1,
        "rows": 2,
        "filler_rows": 0,
        "batches": 1,
        "real_tokens": 16,
        "row_tokens": 9,
        "shared_tokens": 7,
        "padding_tokens": 7,
        "device_tokens": 16,
        "distinct_tokens": 14,
        "tree_tokens": 9,
        "repeated_tokens": 0,
        "shapes": [[2, 8]],
    }
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    np.testing.assert_array_equal(again.parents, plan.parents)
    np.testing.assert_array_equal(plan.reach(0, 1), [[2, 2, 3, 4, 5, 6, 7, 8]])
    assert json.loads(json.dumps(plan.to_dict()))["policy"]["row_prices"] is None
    assert "trees in rows" in str(plan)


def test_attributes_of_a_plan_without_trees():
    plan = Plan(i32(3, 2), batch_size=2)
    assert not plan.trees
    np.testing.assert_array_equal(plan.own, [0, 0])
    np.testing.assert_array_equal(plan.parents, [-1, -1])
    np.testing.assert_array_equal(plan.reach(0), [[3, 3, 3], [2, 2, 3]])
    assert "tree_tokens" not in plan.statistics


def test_lengths_are_chosen_by_row_price():
    """Inputs form a tree of over 30 tokens and 40 small ones, which go into short rows if these are cheap."""
    inputs = [[1] * 30 + [end] * 4 for end in range(2, 9)] + [[100 + first] * 8 for first in range(40)]
    lengths, prefixes = token_lengths(flat(inputs)[1]), prefix_order(*flat(inputs))
    common = {"prefixes": prefixes, "batch_size": 1, "padded_lengths": [8, 64, 128], "shape_price": 0}

    def shapes(**keywords):
        return sorted(Plan(lengths, **common | keywords).shapes[:, 1].tolist())

    assert shapes(row_prices=[1, 64**2, 128**2]) == [8, 64]
    assert shapes(row_prices=i64(1, 64**2, 128**2), max_shapes=1) == [64]
    assert shapes(row_prices=[10**6, 1000, 1001]) == [128]
    assert shapes(row_prices=[1, 64**2, 128**2], shape_price=10**9) == [64]
    plan = Plan(lengths, **common, row_prices=[1, 64**2, 128**2])
    assert plan.to_dict()["policy"]["row_prices"] == [1, 64**2, 128**2]
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_wrong_arguments_are_refused():
    prefixes = {"prefixes": (ORDER, SHARED), "batch_size": 1, "padded_lengths": [8]}
    for keywords, error, message in (
        ({"pack": True}, ValueError, "prefixes already identify equal inputs and pack rows; omit identities"),
        ({"identities": np.arange(5)}, ValueError, "prefixes already identify equal inputs"),
        (
            {"prefixes": ORDER},
            TypeError,
            "prefixes must be the order and shared arrays that prefix_order returns, not nd",
        ),
        ({"prefixes": (ORDER,)}, TypeError, "prefixes must be the order and shared arrays"),
        (
            {"prefixes": None, "row_prices": [1]},
            ValueError,
            "row_prices apply only to rows of trees; give prefixes",
        ),
        (
            {"row_prices": [1, 2]},
            ValueError,
            "row_prices has 2 elements; it must have 1, one for each of padded",
        ),
        ({"row_prices": [0]}, ValueError, r"row_prices\[0\] is 0; it must be at least 1"),
        (
            {"row_prices": [1.5]},
            TypeError,
            r"^row_prices\[0\] must be an integer, not float$",
        ),
        ({"row_prices": i32(1)}, TypeError, "row_prices must have dtype int64, not int32"),
        ({"max_shapes": 0}, ValueError, "max_shapes is 0; it must be at least 1"),
        (
            {"padded_lengths": [4]},
            ValueError,
            r"lengths\[0\] is 5; it must be at most 4, the last of padded_",
        ),
        ({"prefixes": (ORDER[:4], SHARED)}, ValueError, "order has 4 elements; it must have 5, one for each"),
        (
            {"prefixes": (i64(2, 0, 3, 1, 1), SHARED)},
            ValueError,
            r"order\[4\] is 1; it must be a segment that",
        ),
        (
            {"prefixes": (ORDER, i32(0, 5, 2, 0, 2))},
            ValueError,
            r"shared\[1\] is 5; it must be at least 0 and",
        ),
        ({"prefixes": (ORDER, i32(0, 3, -2, 0, 2))}, ValueError, r"shared\[2\] is -2; it must be at least 0"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            Plan(LENGTHS, **prefixes | keywords)


def test_plan_with_trees_is_refused_as_indexed_batches():
    sequences = as_sequences([[1, 2, 3], [1, 2, 4], [5]])
    prefixes = prefix_order(*flat([[1, 2, 3], [1, 2, 4], [5]]))
    plan = Plan(sequences.lengths(), prefixes=prefixes, padded_lengths=[8], batch_size=1)
    with pytest.raises(ValueError, match=r"^plan shares or packs rows"):
        IndexedBatchDataset(plan, sequences)


def test_threads_get_the_same_results():
    """Calls release the GIL, and each uses its own threads."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, 4, 900_000).astype(np.int32)
    offsets = np.arange(0, 900_001, 9)
    expected = prefix_order(tokens, offsets)
    found = []
    threads = [threading.Thread(target=lambda: found.append(prefix_order(tokens, offsets))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for order, shared in found:
        np.testing.assert_array_equal(order, expected[0])
        np.testing.assert_array_equal(shared, expected[1])


def test_small_trees_are_packed_like_segments():
    random = np.random.default_rng(1)
    inputs = [[first, *random.integers(0, 9, random.integers(1, 60))] for first in range(300)]
    lengths, (order, shared) = token_lengths(flat(inputs)[1]), prefix_order(*flat(inputs))
    assert tree_rows(lengths, order, shared, 64)[0].max() == pack_rows(lengths, 64, 300)[0].max()


def few_shot_inputs(random, tasks, examples, documents, choices):
    """Inputs of tasks that put examples before each document, with several choices per document."""
    for _ in range(tasks):
        stem = random.integers(0, 50_000, random.integers(examples // 2, examples + 1))
        for _ in range(documents):
            text = random.integers(0, 50_000, random.integers(20, 200))
            for _ in range(choices):
                yield [*stem, *text, *random.integers(0, 50_000, random.integers(1, 20))]


@pytest.mark.parametrize("examples", [0, 40, 700, 1500])
def test_rows_are_close_to_the_lower_bound(examples):
    random = np.random.default_rng(examples)
    inputs = list(few_shot_inputs(random, tasks=6, examples=examples, documents=60, choices=4))
    inputs += inputs[::7]
    lengths, (order, shared) = token_lengths(flat(inputs)[1]), prefix_order(*flat(inputs))
    for capacity in (512, 1024, 2048, 4096):
        if 2 * lengths.max() <= capacity:  # rows that hold little more than one segment leave no choice
            row, start, own, _ = tree_rows(lengths, order, shared, capacity)
            filled = np.zeros(row.max() + 1, np.int64)
            np.maximum.at(filled, row, start + lengths - own)
            bound = least_row_tokens(lengths, order, shared, capacity)
            assert bound <= filled.sum() <= 1.09 * bound


@given(segments, st.integers(9, 30))
def test_no_rows_are_below_the_lower_bound(inputs, capacity):
    lengths, (order, shared) = token_lengths(flat(inputs)[1]), prefix_order(*flat(inputs))
    row, start, own, _ = tree_rows(lengths, order, shared, capacity)
    places = {(r, s + t) for r, s, n in zip(row, start, lengths - own, strict=True) for t in range(n)}
    assert least_row_tokens(lengths, order, shared, capacity) <= len(places)
    beginnings = {tuple(tokens[:end]) for tokens in inputs for end in range(1, len(tokens) + 1)}
    assert least_row_tokens(lengths, order, shared, 10**6) == len(beginnings)
