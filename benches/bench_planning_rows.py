"""Compares the row functions with the fastest NumPy equivalents, or equal work, in the same run.

The two sides of each pair are timed in turns, many times, and the minimum of each counts. Results are
compared first. The rows to pad differ from call to call, so that branch prediction cannot learn them.
"""

import itertools
import time

import numpy as np

from windrow.planning import multihost_remap, pack_rows, pad_rows

RANDOM = np.random.default_rng(0)


def least_times(repeats, *calls):
    times = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            begin = time.perf_counter()
            result = call()
            taken.append(time.perf_counter() - begin)
            del result
    return [min(taken) for taken in times]


def show(what, rival, limit, times):
    ours, theirs = times
    print(f"{what:<46}{ours * 1e3:>10.3f}{theirs * 1e3:>10.3f}{ours / theirs:>8.2f}{limit:>8}  {rival}")


def bench_pack_rows():
    kinds = {
        "uniform": RANDOM.integers(0, 8192, 1_000_000),
        "log-normal": RANDOM.lognormal(5, 1, 1_000_000).clip(1, 8191),
    }
    for (kind, lengths), max_segments in itertools.product(kinds.items(), (8, 10**6)):
        lengths = lengths.astype(np.int32)
        short = lengths.astype(np.uint16)
        row, start = pack_rows(lengths, 8191, max_segments)
        assert (start + lengths).max() <= 8191
        assert np.bincount(row).max() <= max_segments
        assert np.bincount(row, lengths).max() <= 8191
        times = least_times(
            15,
            lambda lengths=lengths, most=max_segments: pack_rows(lengths, 8191, most),
            lambda short=short: np.argsort(short, kind="stable"),
        )
        what = f"pack_rows, 1 million, {kind}, {max_segments} a row"
        show(what, "np.argsort(uint16, kind='stable')", 4, times)


def bench_pad_rows():
    for (rows, length), full in itertools.product(((64, 8192), (4096, 128)), (False, True)):
        sizes = np.full(2 * rows, length) if full else RANDOM.integers(0, length + 1, 2 * rows)
        offsets = np.cumsum([0, *sizes])
        tokens = RANDOM.integers(0, 50_000, offsets[-1]).astype(np.int32)
        choices = itertools.cycle([RANDOM.permutation(2 * rows)[:rows] for _ in range(64)])
        chosen = next(choices)
        padded = pad_rows(tokens, offsets, chosen, length, -1)
        for line, row in zip(padded, chosen, strict=True):
            segment = tokens[offsets[row] : offsets[row + 1]]
            np.testing.assert_array_equal(line[: len(segment)], segment)
            assert (line[len(segment) :] == -1).all()

        def copy(padded=padded):
            array = np.empty(padded.shape, np.int32)
            np.copyto(array, padded)
            return array

        def pad(tokens=tokens, offsets=offsets, choices=choices, length=length):
            return pad_rows(tokens, offsets, next(choices), length, -1)

        what = f"pad_rows, {rows} x {length}, {'no padding' if full else 'half padding'}"
        show(what, "np.empty and np.copyto", 1.5, least_times(1000, pad, copy))


def bench_multihost_remap():
    size, hosts = 2**20, 8
    for host_rows in (1, 128):

        def transpose(host_rows=host_rows):
            sorted_ = np.arange(size).reshape(-1, hosts, host_rows)
            return sorted_.swapaxes(0, 1).reshape(-1)

        def remap(host_rows=host_rows):
            return multihost_remap(size, hosts * host_rows, hosts)

        np.testing.assert_array_equal(remap(), transpose())
        what = f"multihost_remap, 1 million, 8 hosts of {host_rows} rows"
        show(what, "np.arange, swapaxes, reshape", "", least_times(100, remap, transpose))


def main():
    print(f"{'':<46}{'windrow':>10}{'NumPy':>10}{'ratio':>8}{'at most':>8}  NumPy's way")
    print(f"{'':<46}{'ms':>10}{'ms':>10}")
    bench_pack_rows()
    bench_pad_rows()
    bench_multihost_remap()


if __name__ == "__main__":
    main()
