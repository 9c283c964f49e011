"""Compares the planning functions with the fastest NumPy equivalents, in the same run.

The two sides of each pair are timed in turns, and the minimum of each counts. Results are compared first.
"memory" is the time to read the inputs and write the results once at the speed of ``np.copyto``. Nothing can
be much faster.

To add a row, write a function that calls ``show``, and add it to ``ROWS``.
"""

import functools

import numpy as np

import bench_planning_rows
from bench_planning_rows import least_times
from windrow.planning import (
    bucket_ids,
    choose_lengths,
    group_identical,
    invert_order,
    length_order,
    round_up,
    token_lengths,
)

RANDOM = np.random.default_rng(0)
SEGMENTS = 10_000_000


@functools.cache
def lengths():
    return RANDOM.integers(0, 8192, SEGMENTS).astype(np.int32)


@functools.cache
def bytes_per_second():
    """The speed of ``np.copyto``, in bytes read and written per second."""
    source = RANDOM.integers(0, 2**31, 50_000_000).astype(np.int32)
    target = np.empty_like(source)
    (least,) = least_times(9, lambda: np.copyto(target, source))
    return 2 * source.nbytes / least


def show(what, ours, rival, call, at_most, arrays, repeats=9):
    """Prints a row: ``ours`` and ``rival`` are the calls, ``arrays`` the inputs and outputs."""
    least, least_rival = least_times(repeats, ours, rival)
    memory = sum(array.nbytes for array in arrays) / bytes_per_second()
    ratio = least / least_rival
    print(
        f"{what:<46}{least * 1e3:>10.1f}{least_rival * 1e3:>10.1f}{ratio:>8.2f}{at_most:>8}"
        f"{memory * 1e3:>9.1f}  {call}",
        flush=True,
    )


def bench_length_order():
    short = lengths().astype(np.uint16)
    order = length_order(lengths(), descending=False)
    np.testing.assert_array_equal(order, np.argsort(short, kind="stable"))
    show(
        "length_order, 10 million below 8192",
        lambda: length_order(lengths()),
        lambda: np.argsort(short, kind="stable"),
        "np.argsort(uint16, kind='stable')",
        "1/3",
        [lengths(), order],
    )


def bench_invert_order():
    order = length_order(lengths())

    def scatter():
        inverse = np.empty_like(order)
        inverse[order] = np.arange(SEGMENTS)
        return inverse

    np.testing.assert_array_equal(invert_order(order), scatter())
    show(
        "invert_order, 10 million",
        lambda: invert_order(order),
        scatter,
        "inverse[order] = np.arange(n)",
        "",
        [order, order],
    )


def bench_round_up():
    def divide():
        return -(-lengths() // 100) * 100

    np.testing.assert_array_equal(round_up(lengths(), 100), divide())
    show(
        "round_up, 10 million to multiples of 100",
        lambda: round_up(lengths(), 100),
        divide,
        "-(-lengths // 100) * 100",
        "",
        [lengths(), lengths()],
    )


def cost_by_numpy(chosen):
    return (chosen[np.searchsorted(chosen, lengths())].astype(np.int64)).sum()


def bench_choose_lengths():
    counts = np.bincount(lengths())
    chosen = choose_lengths(lengths(), 16)
    # The minimum, by a dynamic program over all pairs of lengths, with one layer for each shape.
    below = np.concatenate([[0], np.cumsum(counts)])
    size = len(counts)
    least = np.arange(size) * below[1:]
    for _ in range(15):
        covered = np.concatenate([[0], least[:-1]])
        least = np.array(
            [np.min(covered[: i + 1] + i * (below[i + 1] - below[: i + 1])) for i in range(size)]
        )
    assert cost_by_numpy(chosen) == least[-1]
    show(
        "choose_lengths, 10 million below 8192, 16 shapes",
        lambda: choose_lengths(lengths(), 16),
        lambda: np.bincount(lengths()),
        "np.bincount alone",
        0.7,
        [lengths()],
    )


def bench_bucket_ids():
    chosen = choose_lengths(lengths(), 16)
    ids = bucket_ids(lengths(), chosen)
    np.testing.assert_array_equal(ids, np.searchsorted(chosen, lengths()))
    show(
        "bucket_ids, 10 million, 16 buckets",
        lambda: bucket_ids(lengths(), chosen),
        lambda: np.searchsorted(chosen, lengths()),
        "np.searchsorted",
        "",
        [lengths(), ids],
        repeats=5,
    )


def bench_token_lengths():
    offsets = np.concatenate([[0], np.cumsum(lengths(), dtype=np.int64)])
    np.testing.assert_array_equal(token_lengths(offsets), np.diff(offsets))
    show(
        "token_lengths, 10 million",
        lambda: token_lengths(offsets),
        lambda: np.diff(offsets).astype(np.int32),
        "np.diff, then astype",
        "",
        [offsets, lengths()],
    )


def segments_of(size, tokens=100_000_000):
    """Random segments in random order; half of them form pairs of equal ones."""
    count = tokens // size
    segments = RANDOM.integers(0, 50_000, (count, size), dtype=np.int32)
    places = RANDOM.permutation(count)
    one, other = places[: count // 4], places[count // 4 : count // 4 * 2]
    segments[other] = segments[one]
    first = np.arange(count)
    first[one] = first[other] = np.minimum(one, other)
    return segments.reshape(-1), np.arange(0, tokens + 1, size), first


def bench_group_identical():
    for size, at_most in ((100, 1.2), (5, 4)):
        tokens, offsets, first = segments_of(size)
        np.testing.assert_array_equal(group_identical(tokens, offsets), first)
        show(
            f"group_identical, 100 million, segments of {size}",
            lambda tokens=tokens, offsets=offsets: group_identical(tokens, offsets),
            lambda tokens=tokens: np.sum(tokens),
            "np.sum over the tokens",
            at_most,
            [tokens, offsets, first],
        )


ROWS = [
    bench_length_order,
    bench_invert_order,
    bench_round_up,
    bench_choose_lengths,
    bench_bucket_ids,
    bench_token_lengths,
    bench_group_identical,
]


def main():
    print(f"np.copyto reads and writes {bytes_per_second() / 1e9:.0f} GB/s here\n")
    print(f"{'':<46}{'windrow':>10}{'NumPy':>10}{'ratio':>8}{'at most':>8}{'memory':>9}  NumPy's way")
    print(f"{'':<46}{'ms':>10}{'ms':>10}{'':>16}{'ms':>9}")
    for row in ROWS:
        row()
    bench_planning_rows.main()


if __name__ == "__main__":
    main()
