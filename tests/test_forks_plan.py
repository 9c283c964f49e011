"""Plans of forked states, replayed with token lists as states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_segments import as_segments
from windrow import BatchPolicy
from windrow.forks import Forking
from windrow.forks.pieces import cut
from windrow.planning import prefix_order, prefix_stems

FEW = Forking(None, 4, least_by_level=1)


def families(rng, tasks, documents, answers, shared=60):
    """Requests that share prefixes at two levels."""
    sequences, starts = [], []
    for _ in range(tasks):
        task = rng.integers(0, 50, rng.integers(shared // 2, shared))
        for _ in range(documents):
            document = np.concatenate([task, rng.integers(0, 50, rng.integers(20, 60))])
            for _ in range(answers):
                sequences.append(np.concatenate([document, rng.integers(0, 50, rng.integers(1, 5))]))
                starts.append(len(document))
    order = rng.permutation(len(sequences))
    return as_segments([sequences[each] for each in order], [starts[each] for each in order])


def replay(plan, segments, groups):
    """The tokens that each segment's branch has read after all batches have run in order."""
    store = {(group, plan.slots): [] for group in range(groups)}
    read, tokens = {}, segments.tokens.tolist()
    for batch, (rows, length) in enumerate(plan.batch_shapes.tolist()):
        pieces, each, columns = plan.pieces(batch), rows // groups, int(plan.columns[batch])
        assert rows == groups * each == len(pieces)
        filled = np.flatnonzero(pieces >= 0)
        assert len(filled)
        begins, lengths = plan.tokens(batch, pieces[filled])
        before, after = plan.state_slots(batch, pieces[filled])
        depths = plan.depths(batch, pieces[filled])
        made = {}
        for at, row in enumerate(filled.tolist()):
            assert 0 < lengths[at] <= columns <= length
            state = store[row // each, int(before[at])]
            assert len(state) == depths[at]
            assert depths[at] + columns <= plan.room
            made[row] = [*state, *tokens[begins[at] : begins[at] + lengths[at]]]
        for at, row in enumerate(filled.tolist()):
            if plan.is_stem[batch]:
                assert 0 <= after[at] < plan.slots
                store[row // each, int(after[at])] = made[row]
        scored = plan.batch_segments(batch).tolist()
        assert not (plan.is_stem[batch] and scored)
        for segment in scored:
            assert plan.batches[segment] == batch
            read.setdefault(segment, made[int(plan.rows[segment])])
    return [read[segment] for segment in range(len(segments))]


def check(segments, groups, policy, forking):
    plan = forking.plan(policy, segments, groups)
    inputs = [
        segments.tokens[start : stop - 1].tolist()
        for start, stop in zip(segments.offsets[:-1], segments.offsets[1:], strict=True)
    ]
    assert replay(plan, segments, groups) == inputs
    first_read = plan.branches.depth[plan.branches.of] + plan.branches.first_read[plan.branches.of]
    assert (first_read <= segments.score_starts - 1).all(), "all scored positions are in branches, not stems"
    stats = plan.statistics
    assert stats["row_tokens"] + stats["padding_tokens"] == stats["device_tokens"]
    assert plan.fingerprint == forking.plan(policy, segments, groups).fingerprint
    assert plan.shapes.shape[1] == 2
    assert len(str(plan)) > 20
    return plan


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("slots", [1, 3, 1000])
def test_every_input_is_read_completely(groups, slots):
    segments = families(np.random.default_rng(0), 3, 20, 3)
    plan = check(segments, groups, BatchPolicy(batch_size=12), Forking(None, slots, least_by_level=1))
    assert plan.slots <= max(slots, 2), "one slot per level is the minimum"
    stats = plan.statistics
    assert stats["row_tokens"] < 0.6 * stats["real_tokens"]
    assert stats["waves"] == 1 or slots < 1000


def test_one_group_runs_each_stem_once():
    segments = families(np.random.default_rng(1), 2, 30, 4)
    plan = check(segments, 1, BatchPolicy(), Forking(None, 10_000, least_by_level=1))
    assert plan.statistics["rows"] == len(plan.stems) + len(np.unique(segments.equal_inputs))
    assert plan.stems.level.max() == 1
    assert plan.statistics["waves"] == 1


def test_rows_are_no_longer_than_the_models_limit():
    segments = families(np.random.default_rng(2), 2, 20, 3)
    longest = int(segments.input_lengths.max())
    plan = check(segments, 2, BatchPolicy(max_shapes=2), Forking(longest, 100, least_by_level=1))
    assert len(plan.stems)
    assert plan.room <= longest


def test_short_rows_are_not_padded_to_long_ones():
    """All branches have one shape, but a batch runs only the chunks that its longest row needs."""
    long, short = np.arange(400), [np.array([500 + each, 1, 2, 3]) for each in range(60)]
    segments = as_segments([long, *short], [1] * 61)
    plan = check(segments, 1, BatchPolicy(tokens_per_batch=8000), Forking(None, 4))
    assert plan.batch_shapes.tolist() == [[16, 400]] * 4
    assert plan.chunks.tolist() == [16] * 4
    assert plan.columns.tolist() == [400, 16, 16, 16]
    assert plan.statistics["device_tokens"] == 16 * (400 + 3 * 16)


def test_levels_that_save_little_are_left_out():
    segments = families(np.random.default_rng(3), 1, 3, 2, shared=80)
    stems, stem = cut(segments)
    assert len(stems) == 0
    assert (stem == -1).all()
    stems, _ = cut(segments, least_by_level=1)
    assert len(stems) > 0


def test_inputs_without_shared_prefixes():
    segments = as_segments([np.array([n, 1, 2]) for n in range(9)], [1] * 9)
    plan = check(segments, 1, BatchPolicy(batch_size=4), FEW)
    assert len(plan.stems) == 0
    assert not plan.is_stem.any()


def test_equal_inputs_share_a_branch():
    segments = as_segments([np.array([5, 6, 7, last]) for last in range(4)], [3, 1, 3, 2])
    plan = check(segments, 1, BatchPolicy(batch_size=4), FEW)
    assert plan.statistics["rows"] == 1
    assert plan.statistics["shared_segments"] == 3


SEQUENCES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 30), st.lists(st.integers(0, 1), min_size=1, max_size=40)),
    min_size=1,
    max_size=25,
)


@given(SEQUENCES, st.integers(1, 3), st.integers(1, 6), st.integers(1, 8), st.randoms())
@settings(max_examples=150, deadline=None)
def test_random_inputs(grown, groups, slots, rows, random):
    sequences = []
    for source, keep, more in grown:
        before = sequences[source % len(sequences)][:keep] if sequences else []
        sequences.append([*before, *more, 1])
    starts = [random.randint(1, len(each) - 1) for each in sequences]
    segments = as_segments([np.array(each) for each in sequences], starts)
    least = random.choice([1, 3, 32])
    stems, stem = cut(segments, least, 1)
    check(
        segments,
        groups,
        BatchPolicy(batch_size=rows * groups),
        Forking(random.choice([None, 40, 72]), slots, 1),
    )
    forking = Forking(None, slots, 1)
    plan = forking.plan_of(BatchPolicy(batch_size=rows * groups), segments, groups, stems, stem)
    replay(plan, segments, groups)


def test_every_shared_prefix_is_a_stem_if_one_token_suffices():
    rng = np.random.default_rng(4)
    for _ in range(50):
        sequences = [rng.integers(0, 2, rng.integers(1, 12)) for _ in range(rng.integers(1, 12))]
        lengths = np.array([len(each) for each in sequences], np.int32)
        tokens = np.concatenate(sequences).astype(np.int32)
        order, shared = prefix_order(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        depth, parent, segment, stem = prefix_stems(lengths, order, shared, lengths, 1)
        above = np.append(depth, 0)
        distinct = {tuple(each): at for at, each in enumerate(sequences)}
        own = (depth - above[parent]).sum() + sum(lengths[at] - above[stem[at]] for at in distinct.values())
        assert own == len({key[:end] for key in distinct for end in range(1, len(key) + 1)})
        for at, each in enumerate(sequences):
            if stem[at] >= 0:
                of = sequences[segment[stem[at]]][: depth[stem[at]]]
                assert each[: len(of)].tolist() == of.tolist()
        for limits in (np.zeros_like(lengths), lengths // 2):
            depth, parent, segment, stem = prefix_stems(lengths, order, shared, limits.astype(np.int32), 2)
            assert (np.append(depth, 0)[stem] <= limits).all()


LENGTHS, ORDER, SHARED = np.array([3, 2], np.int32), np.array([1, 0]), np.array([0, 2], np.int32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LENGTHS, ORDER, SHARED, np.array([4, 0], np.int32), 1), r"limits\[0\] is 4.*3"),
        ((LENGTHS, ORDER, SHARED, np.array([0, -1], np.int32), 1), r"limits\[1\] is -1.*at least 0"),
        ((LENGTHS, ORDER, SHARED, np.array([0], np.int32), 1), "limits"),
        ((LENGTHS, ORDER, SHARED, LENGTHS, 0), "least.*at least 1"),
        ((LENGTHS, np.array([0, 0]), SHARED, LENGTHS, 1), "order"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        prefix_stems(*arguments)
