"""Epochs of a loader: their lengths, where they start, and resuming from states."""

import json
import sys

import grain
import jax
import numpy as np
import pytest

from windrow.sharding import MultiHostDataLoadIterator


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])


def batches(count):
    return [np.full((2, 3), number, np.int32) for number in range(count)]


class Stream:
    """An iterable of unknown length that can be iterated repeatedly."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(batches(self.count))


def grains(count):
    return grain.MapDataset.source(batches(count)).to_iter_dataset(grain.ReadOptions(0, 0))


KINDS = {
    "a list": batches,
    "a Grain MapDataset": lambda count: grain.MapDataset.source(batches(count)),
    "a Grain IterDataset": grains,
    "what only iterates": Stream,
}


def numbers(loader):
    """The batches of one epoch. Not list(): it would allocate the maximum length of an endless loader."""
    return [int(np.asarray(batch)[0, 0]) for batch in loader]


def test_parameters(mesh):
    loader = MultiHostDataLoadIterator(
        dataloader=Stream(4), global_mesh=mesh, iterator_length=3, dataset_size=7, reset_after_epoch=True
    )
    assert (loader.iterator_length, loader.dataset_size, loader.reset_after_epoch) == (3, 7, True)
    by_place = MultiHostDataLoadIterator(Stream(4), mesh, 3, 7, True)
    assert (by_place.iterator_length, by_place.dataset_size, by_place.reset_after_epoch) == (3, 7, True)
    plain = MultiHostDataLoadIterator(Stream(4), mesh)
    assert (plain.iterator_length, plain.dataset_size, plain.reset_after_epoch) == (None, None, False)


def test_length_is_given_known_or_infinite(mesh):
    assert len(MultiHostDataLoadIterator(Stream(4), mesh, iterator_length=3)) == 3
    assert len(MultiHostDataLoadIterator(batches(4), mesh, iterator_length=3)) == 3
    assert len(MultiHostDataLoadIterator(batches(4), mesh)) == 4
    assert len(MultiHostDataLoadIterator(Stream(4), mesh)) == sys.maxsize
    endless = grain.MapDataset.source(batches(4)).repeat()
    assert len(MultiHostDataLoadIterator(endless, mesh)) == sys.maxsize


@pytest.mark.parametrize("kind", KINDS)
class TestEpochs:
    def test_every_epoch_has_all_batches(self, mesh, kind):
        loader = MultiHostDataLoadIterator(KINDS[kind](3), mesh)
        assert numbers(loader) == numbers(loader) == [0, 1, 2]
        exact = MultiHostDataLoadIterator(KINDS[kind](3), mesh, iterator_length=3)
        assert numbers(exact) == numbers(exact) == numbers(exact) == [0, 1, 2]

    def test_epoch_stops_after_iterator_length(self, mesh, kind):
        loader = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=2)
        assert [int(next(loader)[0, 0]) for _ in range(2)] == [0, 1]
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(loader)
        assert loader.get_state()["step"] == 2
        none = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=0)
        assert numbers(none) == numbers(none) == []

    def test_next_epoch_continues_or_restarts(self, mesh, kind):
        loader = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=2)
        assert [numbers(loader) for _ in range(2)] == [[0, 1], [2, 3]]
        again = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=2, reset_after_epoch=True)
        assert [numbers(again) for _ in range(3)] == [[0, 1]] * 3

    def test_dataloader_that_ends_early_is_reported(self, mesh, kind, caplog):
        loader = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=3)
        assert [numbers(loader) for _ in range(3)] == [[0, 1, 2], [3, 4], [0, 1, 2]]
        assert "dataloader ended after 2 of 3 steps" in caplog.text
        assert len(caplog.records) == 1

    def test_reset(self, mesh, kind):
        loader = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=3)
        loader.reset()
        for _ in range(2):
            assert [int(next(loader)[0, 0]) for _ in range(2)] == [0, 1]
            loader.reset()
        assert numbers(loader) == [0, 1, 2]
        loader.reset()
        assert loader.get_state() == {"step": 0, "iterator_length": 3}
        assert numbers(loader) == [0, 1, 2]
        assert numbers(loader) == [3, 4]

    @pytest.mark.parametrize("before", range(6))
    def test_states_resume_in_any_epoch(self, mesh, kind, before):
        def steps():
            loader = MultiHostDataLoadIterator(KINDS[kind](7), mesh, iterator_length=3)
            epoch = iter(loader)
            for step in range(before):
                if step == 3:
                    epoch = iter(loader)
                next(epoch)
            return loader

        first = steps()
        state = json.loads(json.dumps(first.get_state()))
        assert (state["step"], state["iterator_length"]) == (before - 3 * (before > 3), 3)
        other = MultiHostDataLoadIterator(KINDS[kind](7), mesh, iterator_length=3)
        other.set_state(state)
        assert other.get_state() == state
        rest = [[0, 1, 2], [3, 4, 5]][before > 3][state["step"] :]
        assert numbers(other) == rest
        assert numbers(other) == ([6] if before > 3 else [3, 4, 5])
        other.set_state(state)
        assert numbers(other) == rest

    def test_state_with_another_length_is_refused(self, mesh, kind):
        three = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=3)
        four = MultiHostDataLoadIterator(KINDS[kind](5), mesh, iterator_length=4)
        next(three)
        with pytest.raises(ValueError, match="iterator_length is 3, but this iterator's is 4"):
            four.set_state(three.get_state())
        assert numbers(four) == [0, 1, 2, 3]

    def test_concurrent_epochs_are_independent(self, mesh, kind):
        loader = MultiHostDataLoadIterator(KINDS[kind](3), mesh)
        one, other = iter(loader), iter(loader)
        next(one)
        assert (numbers(other), numbers(one)) == ([0, 1, 2], [1, 2])


class TestIterators:
    """An iterable that can be iterated only once."""

    def test_iterator_cannot_restart(self, mesh):
        loader = MultiHostDataLoadIterator(iter(batches(3)), mesh)
        assert numbers(loader) == [0, 1, 2]
        with pytest.raises(ValueError, match="dataloader is an iterator that has already yielded 3 batches"):
            iter(loader)
        with pytest.raises(ValueError, match="pass the iterable that it was made from"):
            loader.reset()

    def test_epochs_continue_to_the_end_of_an_iterator(self, mesh):
        loader = MultiHostDataLoadIterator(iter(batches(4)), mesh, iterator_length=2)
        assert [numbers(loader) for _ in range(2)] == [[0, 1], [2, 3]]
        with pytest.raises(ValueError, match="cannot go back to batch 0"):
            numbers(loader)

    def test_state_only_moves_an_iterator_forward(self, mesh):
        loader = MultiHostDataLoadIterator(iter(batches(4)), mesh, iterator_length=4)
        loader.set_state({"step": 2, "iterator_length": 4})
        assert numbers(loader) == [2, 3]
        with pytest.raises(ValueError, match="cannot go back to batch 2"):
            loader.set_state({"step": 2, "iterator_length": 4})


@pytest.mark.parametrize(
    ("length", "error", "message"),
    [
        (-1, ValueError, "iterator_length is -1; it must be at least 0"),
        (2.0, TypeError, "iterator_length must be a whole number, not float"),
        (True, TypeError, "iterator_length must be a whole number, not bool"),
    ],
)
def test_bad_lengths(mesh, length, error, message):
    with pytest.raises(error, match=message):
        MultiHostDataLoadIterator(batches(3), mesh, length)
