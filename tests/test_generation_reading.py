"""Prefill: which shape is chosen, and which rows are prefilled together."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windrow.generation.reading import choose_reading, one_shape
from windrow.generation.rows import Rows
from windrow.generation.schedule import Entry

counts = st.lists(st.integers(0, 300), min_size=1, max_size=30).map(lambda found: np.array(found, np.int32))


@given(
    counts,
    st.lists(counts, max_size=2),
    st.sampled_from([1, 2]),
    st.integers(1, 9),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([None, 7, 40]),
    st.sampled_from(["cpu", "gpu"]),
)
def test_shape_holds_every_row(rests, levels, groups, most_rows, multiple, chunk_length, platform):
    longest = max(int(lengths.max()) for lengths in (rests, *levels))
    for room in (None, longest + 1, 2 * longest + 50):
        reading = choose_reading(
            rests, levels, groups, most_rows,
            platform=platform, multiple=multiple, room=room, chunk_length=chunk_length,
        )  # fmt: skip
        ((length, rows, chunk),) = zip(reading.lengths, reading.rows, reading.chunks, strict=True)
        assert longest < length <= (room or length)
        assert 1 <= rows <= most_rows
        assert chunk in (length, chunk_length) or (chunk_length is None and chunk % multiple == 0)
        if room is None:
            assert length % multiple == 0 == length % chunk
        columns = reading.padded(rests)
        assert (columns >= rests).all()
        assert (columns < rests + chunk).all()


def test_distinct_prompts_are_read_together_and_repeated_ones_once():
    rng = np.random.default_rng(0)
    apart = choose_reading(rng.integers(80, 120, 200), [], 1, 8, platform="cpu")
    assert apart.rows.tolist() == [8]
    samples = choose_reading(np.zeros(32, np.int32), [np.array([700])], 1, 8, platform="cpu")
    assert samples.rows.tolist() == [1]
    assert samples.padded(np.array([700])).tolist() == [720]


@dataclass
class Prompts:
    offsets: np.ndarray


@dataclass
class Read:
    """The parts of a batching that determine which rows are read together."""

    rest: np.ndarray
    room: int | None
    chunk: int

    def columns(self, tokens):
        return int(one_shape(1, 1024, self.chunk).padded(np.array([tokens - 1]))[0])


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=12),
    st.sampled_from([1, 8, 64]),
)
def test_padding_does_not_exceed_the_cache(parts, chunk):
    depths, rest = np.array(parts, np.int32).T
    alone = [depth + Read(rest, None, chunk).columns(int(own)) for depth, own in parts]
    for room in (None, max(alone)):
        batching = Read(rest, room, chunk)
        prompts = Prompts(np.append(0, np.cumsum(depths + rest)))
        rows = Rows(batching, prompts, [], None, np.zeros((len(rest), 2), np.int32), 1)
        groups = list(rows.together([Entry(number, number, number) for number in range(len(rest))]))
        assert sorted(entry.request for group in groups for entry in group) == list(range(len(rest)))
        if room is None:
            assert len(groups) == 1
        for group in groups if room else []:
            columns = max(batching.columns(int(rest[entry.request])) for entry in group)
            assert all(
                depths[entry.request] == 0 or depths[entry.request] + columns <= room for entry in group
            )


@pytest.mark.parametrize("chunk_length", [None, 5])
def test_one_long_prompt(chunk_length):
    """A long prompt lengthens only the rows that are read with it."""
    rests = np.array([5000, *[40] * 100], np.int32)
    reading = choose_reading(rests, [], 1, 8, platform="cpu", chunk_length=chunk_length)
    assert reading.padded(np.array([40]))[0] <= 40 + reading.chunks[0]
