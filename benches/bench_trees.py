"""Measures prefix trees on real requests: tokens in rows, compared with a lower bound, and host time.

The requests are those of ``local_suite`` and, with five examples, of ``local_mmlu``, in GPT-2's tokens.
``prefix_order`` is timed against one pass that sums the tokens, in the same run. The figures are asserted.
"""

import sys
from pathlib import Path

import numpy as np

from bench_planning_rows import least_times
from windrow import Plan
from windrow.cli.tasks import requests_of
from windrow.planning import group_identical, prefix_order, token_lengths, tree_rows
from windrow.tokens import load_tokenizer, loglikelihood_segments

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from prefix_bound import least_row_tokens

EVALS = Path(__file__).resolve().parents[2] / "shared" / "evals"
TIMED = (
    ("sum", ""),
    ("prefix_order", ", should be at most 6"),
    ("group_identical", ""),
    ("tree_rows", ""),
    ("Plan", ""),
)
SUITES = (("local_suite", 0, 2048, 0.545), ("local_mmlu", 5, 4096, 0.048))


def read_inputs(suite, examples):
    """The input of each request: all of its tokens except the last."""
    tokenizer = load_tokenizer(str(EVALS / "parity" / "tiny-gpt2"))
    folder = str(EVALS / "tasks")
    requests = requests_of([suite], tokenizer, include_path=folder, num_fewshot=examples)["loglikelihood"]
    segments = loglikelihood_segments(tokenizer, requests)
    seen = np.ones(len(segments.tokens), np.bool_)
    seen[segments.offsets[1:] - 1] = False
    return segments.tokens[seen], segments.offsets - np.arange(len(segments.offsets))


def bench(suite, examples, length, at_most):
    tokens, offsets = read_inputs(suite, examples)
    lengths, (order, shared) = token_lengths(offsets), prefix_order(tokens, offsets)
    plan = Plan(lengths, prefixes=(order, shared), padded_lengths=[length], batch_size=1)
    statistics = plan.statistics
    real, bound = statistics["real_tokens"], least_row_tokens(lengths, order, shared, length)
    assert len(plan.shapes) == 1
    assert statistics["device_tokens"] <= at_most * real
    assert bound <= statistics["row_tokens"] <= 1.09 * bound
    print(f"\n{suite}, {examples} examples: {len(lengths):,} requests, {real:,} tokens, rows of {length:,}")
    for name, value in (
        ("equal inputs computed once", statistics["distinct_tokens"]),
        ("every shared prefix computed once", statistics["tree_tokens"]),
        ("in rows of trees", statistics["row_tokens"]),
        ("in rows of trees, padding included", statistics["device_tokens"]),
        ("the least that such rows can take", bound),
    ):
        print(f"  {name:<38}{value / real:>8.4f} tokens per token")
    times = least_times(
        15,
        lambda: tokens.sum(),
        lambda: prefix_order(tokens, offsets),
        lambda: group_identical(tokens, offsets),
        lambda: tree_rows(lengths, order, shared, length),
        lambda: Plan(lengths, prefixes=(order, shared), padded_lengths=[length], batch_size=1),
    )
    for (name, asked), time in zip(TIMED, times, strict=True):
        print(f"  {name:<38}{time * 1e3:>8.2f} ms{time / times[0]:>8.2f} sums of the tokens{asked}")


def main():
    if not EVALS.exists():
        print("the requests are read from ../shared/evals, which is not there")
        return
    for suite in SUITES:
        bench(*suite)


if __name__ == "__main__":
    main()
