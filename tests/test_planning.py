"""Orders, padded lengths and ragged tokens, compared with NumPy; each function's docstring example.

The core's own property tests are in ``order.rs``, ``bucket.rs`` and ``ragged.rs``. Errors for wrong
dtypes and layouts are in ``test_planning_arguments.py``.
"""

import doctest
import itertools
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from int_arrays import i32, i64
from windrow import planning
from windrow.planning import (
    bucket_ids,
    choose_lengths,
    group_identical,
    invert_order,
    length_order,
    round_up,
    token_lengths,
)

MOST = 2**31 - 1


@pytest.mark.parametrize("name", planning.__all__)
def test_docstring_example(name):
    test = doctest.DocTestParser().get_doctest(
        getattr(planning, name).__doc__, {"np": np, **vars(planning)}, name, None, 0
    )
    assert test.examples, f"{name} has no example"
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0


LENGTHS = {
    "empty": i32(),
    "one": i32(5),
    "one zero": i32(0),
    "zeros among others": i32(0, 3, 0, 0, 7),
    "all equal": np.full(100, 64, np.int32),
    "near the maximum": i32(MOST, 0, MOST - 1, MOST, 1),
    "ascending": np.arange(300, dtype=np.int32),
    "many": np.random.default_rng(0).integers(0, 8192, 200_000).astype(np.int32),
    "many, one outlier": np.append(np.full(100_000, 9), MOST).astype(np.int32),
}
lengths_seeds = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
any_lengths = arrays(np.int32, st.integers(0, 60), elements=st.integers(0, MOST) | st.integers(0, 9))


def assert_same(array, expected, dtype):
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    np.testing.assert_array_equal(array, expected)


def check_order(lengths):
    assert_same(length_order(lengths, descending=False), np.argsort(lengths, kind="stable"), np.int64)
    order = length_order(lengths)
    assert_same(order, np.argsort(-lengths.astype(np.int64), kind="stable"), np.int64)
    inverse = invert_order(order)
    assert_same(inverse[order], np.arange(len(lengths)), np.int64)
    assert_same(invert_order(inverse), order, np.int64)


@lengths_seeds
def test_orders_match_numpy(lengths):
    check_order(lengths)


@given(any_lengths)
def test_random_orders_match_numpy(lengths):
    check_order(lengths)


@given(st.lists(st.integers(-2, 8), max_size=8))
def test_only_permutations_can_be_inverted(order):
    if sorted(order) == list(range(len(order))):
        assert_same(invert_order(i64(*order)), np.argsort(i64(*order)), np.int64)
    else:
        with pytest.raises(ValueError, match=r"^order\[\d+\] is -?\d+; it must be "):
            invert_order(i64(*order))


@given(any_lengths, st.integers(1, MOST) | st.integers(1, 9))
def test_multiples_match_numpy(lengths, multiple):
    expected = -(-lengths.astype(np.int64) // multiple) * multiple
    if expected.max(initial=0) <= MOST:
        assert_same(round_up(lengths, multiple), expected, np.int32)
    else:
        with pytest.raises(
            ValueError, match=r"^lengths\[\d+\] is \d+; it must be at most the greatest multiple"
        ):
            round_up(lengths, multiple)


@lengths_seeds
def test_multiples_are_unchanged(lengths):
    assert_same(round_up(lengths, 1), lengths, np.int32)
    if lengths.max(initial=0) < 2**20:
        assert_same(round_up(lengths * 24, 24), lengths * 24, np.int32)


def padded_tokens(lengths, chosen):
    return chosen.astype(object)[np.searchsorted(chosen, lengths)].sum()


@given(arrays(np.int32, st.integers(1, 30), elements=st.integers(0, 9)), st.integers(1, 5), st.integers(1, 4))
def test_chosen_lengths_match_a_search(lengths, max_shapes, multiple):
    chosen = choose_lengths(lengths, max_shapes, multiple)
    assert chosen.dtype == np.int32
    assert (np.diff(chosen) > 0).all()
    assert not (chosen % multiple).any()
    candidates = np.unique(round_up(lengths, multiple))
    sets = itertools.chain.from_iterable(
        itertools.combinations(candidates[:-1], count) for count in range(max_shapes)
    )
    found = (padded_tokens(lengths, chosen), len(chosen))
    assert found == min((padded_tokens(lengths, i32(*few, candidates[-1])), len(few) + 1) for few in sets)


@lengths_seeds
def test_chosen_lengths_fit_every_segment(lengths):
    for max_shapes in (1, 4, 2**62):
        chosen = choose_lengths(lengths, max_shapes)
        assert len(chosen) <= max_shapes
        assert set(chosen) <= set(lengths)
        assert_same(bucket_ids(lengths, chosen), np.searchsorted(chosen, lengths), np.int32)
    assert_same(chosen, np.unique(lengths), np.int32)


@given(any_lengths, arrays(np.int32, st.integers(0, 9), elements=st.integers(0, MOST)).map(np.unique))
def test_bucket_ids_match_numpy(lengths, buckets):
    if lengths.max(initial=-1) <= buckets.max(initial=-1):
        assert_same(bucket_ids(lengths, buckets), np.searchsorted(buckets, lengths), np.int32)
    else:
        with pytest.raises(ValueError, match=r"^lengths|^bucket_lengths has 0"):
            bucket_ids(lengths, buckets)


@lengths_seeds
def test_token_lengths_are_differences(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    assert_same(token_lengths(offsets), lengths, np.int32)


def first_with_the_same_tokens(tokens, offsets):
    seen = {}
    segments = (tokens[begin:end].tobytes() for begin, end in itertools.pairwise(offsets))
    return [seen.setdefault(segment, number) for number, segment in enumerate(segments)]


@given(st.lists(st.lists(st.integers(0, 2), max_size=4) | st.lists(st.integers(-MOST, MOST)), max_size=60))
def test_segments_with_the_same_tokens_are_grouped(segments):
    tokens = i32(*itertools.chain.from_iterable(segments))
    offsets = i64(0, *itertools.accumulate(map(len, segments)))
    assert_same(group_identical(tokens, offsets), first_with_the_same_tokens(tokens, offsets), np.int64)


@pytest.mark.parametrize(("longest", "vocabulary"), [(3, 20), (0, 1), (40, 2), (9, 50_000)])
def test_many_segments_are_grouped(longest, vocabulary):
    random = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, longest + 1, 100_000))])
    tokens = random.integers(0, vocabulary, offsets[-1]).astype(np.int32)
    assert_same(group_identical(tokens, offsets), first_with_the_same_tokens(tokens, offsets), np.int64)


# The message names the argument and the index, and says what is required.
VALUES = [
    (lambda: length_order(i32(3, -1, -2)), r"lengths[1] is -1; it must be at least 0"),
    (lambda: invert_order(i64(1, 1)), r"order[1] is 1; it must be a segment that has not come before"),
    (lambda: invert_order(i64(0, 2)), r"order[1] is 2; it must be at least 0 and below the number"),
    (lambda: invert_order(i64(-1)), r"order[0] is -1; it must be at least 0 and below the number"),
    (lambda: round_up(i32(3, -1), 8), r"lengths[1] is -1; it must be at least 0"),
    (lambda: round_up(i32(3, MOST), 8), "lengths[1] is 2147483647; it must be at most the greatest multiple"),
    (lambda: round_up(i32(3), 0), "multiple is 0; it must be at least 1"),
    (lambda: round_up(i32(3), 2**31), "multiple is 2147483648; it must fit in int32"),
    (lambda: round_up(i32(3), 2**70), "multiple does not fit in 64 bits"),
    (lambda: choose_lengths(i32(3, -1), 2), r"lengths[1] is -1; it must be at least 0"),
    (lambda: choose_lengths(i32(MOST), 2, 8), "lengths[0] is 2147483647; it must be at most the greatest"),
    (lambda: choose_lengths(i32(3), 0), "max_shapes is 0; it must be at least 1"),
    (lambda: choose_lengths(i32(3), 2, -8), "multiple is -8; it must be at least 1"),
    (lambda: bucket_ids(i32(3, -1), i32(4)), r"lengths[1] is -1; it must be at least 0"),
    (lambda: bucket_ids(i32(3, 5), i32(4)), "lengths[1] is 5; it must be at most the last of bucket_lengths"),
    (lambda: bucket_ids(i32(3), i32()), "bucket_lengths has 0 elements; it must have 1"),
    (lambda: bucket_ids(i32(3), i32(4, 4)), "bucket_lengths[1] is 4; it must be above the one before it"),
    (lambda: bucket_ids(i32(3), i32(-4, 4)), "bucket_lengths[0] is -4; it must be at least 0"),
    (lambda: token_lengths(i64()), "offsets has 0 elements; it must have 1"),
    (lambda: token_lengths(i64(1, 2)), "offsets[0] is 1; it must be 0"),
    (lambda: token_lengths(i64(0, 2, 1)), "offsets[2] is 1; it must be at least the offset before it"),
    (lambda: token_lengths(i64(0, 2**31)), "offsets[1] is 2147483648; it must be at most 2147483647 above"),
    (lambda: group_identical(i32(7), i64()), "offsets has 0 elements; it must have 1"),
    (lambda: group_identical(i32(7), i64(1, 1)), "offsets[0] is 1; it must be 0"),
    (lambda: group_identical(i32(7), i64(0, 2)), "offsets[1] is 2; it must be the number of tokens"),
    (lambda: group_identical(i32(7, 8), i64(0, 1)), "offsets[1] is 1; it must be the number of tokens"),
    (lambda: group_identical(i32(7, 8), i64(0, 3, 2)), "offsets[1] is 3; it must be at most the number"),
    (lambda: group_identical(i32(7, 8), i64(0, -1, 2)), "offsets[1] is -1; it must be at least the offset"),
]


@pytest.mark.parametrize(("call", "message"), VALUES, ids=[message for _, message in VALUES])
def test_wrong_values_are_rejected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


def test_arrays_that_change_during_a_call_give_a_result_or_an_error():
    lengths = np.random.default_rng(2).integers(0, 8192, 300_000).astype(np.int32)
    offsets = np.arange(len(lengths) + 1)
    ended = threading.Event()

    def disturb():
        random = np.random.default_rng(3)
        while not ended.is_set():
            at = random.integers(0, len(lengths))
            lengths[at : at + 1000] = random.integers(-1, 10_000)
            offsets[1 + at : 1000 + at] += random.integers(-3, 4)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for call in (
            lambda: length_order(lengths),
            lambda: invert_order(offsets[:-1]),
            lambda: round_up(lengths, 8),
            lambda: choose_lengths(lengths, 8),
            lambda: bucket_ids(lengths, i32(8191)),
            lambda: token_lengths(offsets),
            lambda: group_identical(lengths, offsets),
        ):
            for _ in range(20):
                try:
                    call()
                except ValueError as error:
                    assert str(error).startswith(("lengths", "offsets", "order"))  # noqa: PT017
    finally:
        ended.set()
        disturber.join()
