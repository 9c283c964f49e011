"""Compares tokenizing requests with the Python ``tokenizers`` package.

    python benches/bench_tokens.py [--repeats N]

It encodes the 38,003 ``loglikelihood`` pairs of the local tasks with GPT-2's tokenizer: the whole text and
the context of each. It asserts that all sides give the same ids before timing anything. Runs take turns; each
has its own child process to measure peak memory beyond the texts and the tokenizer.
"""

import argparse
import multiprocessing
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from local_suite import EVALS, read_local_suite
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import Tokenizer, load_tokenizer, loglikelihood_segments

MODEL = EVALS / "parity" / "tiny-gpt2"
MAX_LENGTH = 1024
ROWS = 64

Pairs = list[tuple[str, str]]
Package = tokenizers.Tokenizer
Ragged = tuple[np.ndarray, np.ndarray]


def wholes(pairs: Pairs) -> list[str]:
    return [context + continuation for context, continuation in pairs]


def contexts(pairs: Pairs) -> list[str]:
    return [context.rstrip() for context, _ in pairs]


def windrow_segments(tokenizer: Tokenizer, _: Package, pairs: Pairs) -> object:
    return loglikelihood_segments(tokenizer, pairs, max_length=MAX_LENGTH)


def windrow_texts(tokenizer: Tokenizer, _: Package, pairs: Pairs) -> list[Ragged]:
    return [tokenizer.encode_batch(texts) for texts in (wholes(pairs), contexts(pairs))]


def ragged(rows: list[list[int]]) -> Ragged:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.concatenate([np.array(row, np.int32) for row in rows]), offsets


def batch_fast(_: Tokenizer, package: Package, pairs: Pairs) -> list[Ragged]:
    lists = (wholes(pairs), contexts(pairs))
    return [ragged([row.ids for row in package.encode_batch_fast(texts)]) for texts in lists]


def batch(_: Tokenizer, package: Package, pairs: Pairs) -> list[Ragged]:
    lists = (wholes(pairs), contexts(pairs))
    return [ragged([row.ids for row in package.encode_batch(texts)]) for texts in lists]


def one_by_one(_: Tokenizer, package: Package, pairs: Pairs) -> list[Ragged]:
    lists = (wholes(pairs), contexts(pairs))
    return [ragged([package.encode(text).ids for text in texts]) for texts in lists]


Run = Callable[[Tokenizer, Package, Pairs], object]


def load() -> tuple[Tokenizer, Package]:
    return load_tokenizer(MODEL), tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def status(field: str) -> int:
    """A field of this process's memory status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def peak_memory(run: Run, file: str) -> int:
    """Peak bytes in addition to texts and tokenizer, in a separate process."""
    pairs = pickle.loads(Path(file).read_bytes())
    tokenizer, package = load()
    run(tokenizer, package, pairs[:200])
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    run(tokenizer, package, pairs)
    return status("VmHWM") - before


def assert_equal_ids(tokenizer: Tokenizer, package: Package, pairs: Pairs) -> None:
    both, alone = windrow_texts(tokenizer, package, pairs)
    for rival in (batch_fast, batch, one_by_one):
        for ours, theirs in zip((both, alone), rival(tokenizer, package, pairs), strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    segments = loglikelihood_segments(tokenizer, pairs)
    for at, (start, end) in enumerate(zip(segments.offsets, segments.offsets[1:], strict=False)):
        context = alone[0][alone[1][at] : alone[1][at + 1]]
        whole = both[0][both[1][at] : both[1][at + 1]]
        expected = np.concatenate([context, whole[len(context) :]])
        assert np.array_equal(segments.tokens[start:end], expected)
        assert segments.score_starts[at] == len(context)


def first_batch(tokenizer: Tokenizer, requests: list) -> np.ndarray:
    """From lm_eval's instances to the first batch of 64 rows."""
    segments = loglikelihood_segments(tokenizer, [each.args for each in requests], max_length=MAX_LENGTH)
    plan = BatchPolicy(batch_size=ROWS).plan(segments, 1)
    rows: np.ndarray = plan.inputs(0, segments.tokens, segments.offsets)
    return rows


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if not EVALS.is_dir():
        print(f"skipped: needs the evaluation material in {EVALS}")
        return
    requests = read_local_suite()
    pairs = [request.args for request in requests]
    tokenizer, package = load()
    assert_equal_ids(tokenizer, package, pairs)
    print(f"{len(pairs):,} pairs, ids equal; seconds, least of {arguments.repeats}")

    runs: list[tuple[str, Run]] = [
        ("loglikelihood_segments: pairs to segments", windrow_segments),
        ("Tokenizer.encode_batch, twice", windrow_texts),
        ("encode_batch_fast, twice, as arrays", batch_fast),
        ("encode_batch, twice, as arrays", batch),
        ("encode, one text at a time", one_by_one),
    ]
    least = dict.fromkeys((name for name, _ in runs), float("inf"))
    for _ in range(arguments.repeats):
        for name, run in runs:
            least[name] = min(least[name], seconds(lambda run=run: run(tokenizer, package, pairs)))
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(pickle.dumps(pairs))
        spawn = multiprocessing.get_context("spawn")
        peaks = {}
        for name, run in runs:
            with spawn.Pool(1) as pool:
                peaks[name] = pool.apply(peak_memory, (run, file.name))
    for name, _ in runs:
        print(f"{name:44}{least[name]:8.3f} s{peaks[name] / 2**20:9.1f} MiB")
    segments, _, fast, slow, single = (name for name, _ in runs)
    print(f"time / encode_batch_fast       {least[segments] / least[fast]:.4f}   at most 0.15")
    print(f"time / one at a time           {least[segments] / least[single]:.4f}   at most {1 / 12:.4f}")
    print(f"peak / encode_batch            {peaks[segments] / peaks[slow]:.4f}   at most {1 / 8:.4f}")
    loading = min(seconds(lambda: load_tokenizer(MODEL)) for _ in range(arguments.repeats))
    batching = min(seconds(lambda: first_batch(tokenizer, requests)) for _ in range(arguments.repeats))
    print(
        f"requests to plan and first batch {batching:.3f} s, at most 0.6; tokenizer loaded in {loading:.3f} s"
    )


if __name__ == "__main__":
    main()
