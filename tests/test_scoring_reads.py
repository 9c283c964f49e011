"""Reads of scored positions, compared with one read at a time; scores are stored with their segments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from made_segments import as_segments
from windrow import LanguageModel, _rust
from windrow.scoring import Scores, program

VOCAB, LENGTH = 11, 12
MODEL = LanguageModel(jnp.zeros(1), lambda *_: None, hidden=lambda *_: None, head=lambda _, picked: picked)


def reads_of(order, random, picks, reads):
    """The pick of each read, for a group with unused picks and reads."""
    used, most = random.integers(1, picks + 1), random.integers(1, reads + 1)
    found = {
        "each once": np.arange(min(used, most)),
        "ascending": np.sort(random.integers(0, used, most)),
        "any order": random.integers(0, used, most),
        "far apart": np.where(np.arange(most) % 2, used - 1, 0),
    }[order]
    return np.pad(found, (0, reads - len(found))).astype(np.int32)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("order", ["each once", "ascending", "any order", "far apart"])
def test_reads_in_blocks(order, groups, monkeypatch):
    monkeypatch.setattr(program, "MOST_PICKS", 8)
    random = np.random.default_rng(0)
    for picks, reads, block in ((30, 47, 5), (30, 47, 47), (64, 64, 8)):
        source = random.normal(size=(groups, 6 * LENGTH, VOCAB)).astype(np.float32)
        pick_index = random.integers(0, 6 * LENGTH, (groups, picks)).astype(np.int32)
        read_pick = np.stack([reads_of(order, random, picks, reads) for _ in range(groups)])
        target = random.integers(0, VOCAB, (groups, reads)).astype(np.int32)
        monkeypatch.setattr(program, "READS_TOGETHER", block)
        run = jax.jit(partial(program.read_scores, MODEL, "cpu"))
        logprobs, greedy = run(MODEL.params, source, pick_index, read_pick, target)
        logits = np.take_along_axis(source, np.take_along_axis(pick_index, read_pick, 1)[:, :, None], 1)
        naive = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), target[:, :, None], 2)[:, :, 0]
        np.testing.assert_allclose(logprobs, naive, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(greedy, logits.argmax(axis=2) == target)


def test_scores_are_stored_with_their_segments():
    scores = Scores.unknown(as_segments([[1, 2, 3], [4, 5], [6, 7, 8, 9]], [1, 1, 2]))
    given = np.array([5, 6, 3, 4, 99], np.float32)
    scores.put(np.array([2, 0]), given, given > 4)
    np.testing.assert_array_equal(scores.token_logprobs, np.array([3, 4, np.nan, 5, 6], np.float32))
    assert scores.token_greedy.tolist() == [False, False, False, True, True]
    picked = scores.only(np.array([2, 0]))
    assert (picked.token_logprobs.tolist(), picked.offsets.tolist()) == ([5, 6, 3, 4], [0, 2, 4])


GOOD = {
    "segments": np.array([1, 0]),
    "offsets": np.array([0, 2, 3]),
    "logprobs": np.zeros(3, np.float32),
    "greedy": np.zeros(3, np.bool_),
}
READ_ONLY = np.zeros(3, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"segments": np.array([1, 2])},
            ValueError,
            r"segments\[1\] is 2; it must be at least 0 and less than 2",
        ),
        ({"segments": np.array([1, 0], np.int32)}, TypeError, "segments must have dtype int64, not int32"),
        ({"offsets": np.array([0, 2, 4])}, ValueError, r"offsets\[2\] is 4; it must be at most the number"),
        (
            {"offsets": np.array([0, 3, 2])},
            ValueError,
            r"offsets\[1\] is 3; it must be at least 0 and at most",
        ),
        (
            {"logprobs": np.zeros(2, np.float32)},
            ValueError,
            "the number of values is 2; it must be at least 3",
        ),
        ({"greedy": np.zeros(3, np.int8)}, TypeError, "greedy must have dtype bool, not int8"),
        ({"greedy": np.zeros((3, 1), np.bool_)}, TypeError, "greedy must have 1 dimension, not 2"),
        ({"greedy": np.zeros(6, np.bool_)[::2]}, ValueError, "greedy must be contiguous and aligned"),
        ({"all_logprobs": READ_ONLY}, ValueError, "all_logprobs must be writeable, and not be another"),
        ({"all_greedy": np.zeros(6, np.bool_)[::2]}, ValueError, "all_greedy must be contiguous and aligned"),
        ({"all_greedy": GOOD["greedy"]}, ValueError, "all_greedy must be writeable, and not be another"),
    ],
)
def test_bad_arguments_of_spread_scores(changes, error, message):
    room = {"all_logprobs": np.zeros(3, np.float32), "all_greedy": np.zeros(3, np.bool_)}
    _rust.spread_scores(**GOOD, **room)
    with pytest.raises(error, match=message):
        _rust.spread_scores(**{**GOOD, **room, **changes})
