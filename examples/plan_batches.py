"""Planning without a model: the cost of some requests under several policies.

A plan only needs lengths in tokens and, for sharing, which inputs are equal.
"""

import numpy as np

from windrow.planning import Plan, choose_lengths, group_identical, pad_rows

RANDOM = np.random.default_rng(0)


def requests() -> tuple[np.ndarray, np.ndarray]:
    """The tokens of 3,000 random inputs, concatenated, and their offsets; each input occurs three times."""
    lengths = RANDOM.lognormal(4, 0.6, 1000).astype(np.int64).clip(1, 1000)
    texts = [RANDOM.integers(0, 50_000, length).astype(np.int32) for length in lengths]
    offsets = np.concatenate([[0], np.cumsum(np.repeat(lengths, 3))])
    return np.concatenate([text for text in texts for _ in range(3)]), offsets


def main() -> None:
    tokens, offsets = requests()
    lengths = np.diff(offsets).astype(np.int32)
    same = group_identical(tokens, offsets)
    rows = {"batch_size": 32}
    plans = {
        "multiples of 128": Plan(lengths, **rows, max_shapes=None, padding_multiple=128),
        "best lengths, at most 8": Plan(lengths, **rows, max_shapes=8),
        "equal inputs share a row": Plan(lengths, same, **rows, max_shapes=8),
        "and rows are packed": Plan(lengths, same, **rows, max_shapes=8, pack=True),
    }
    print(f"{len(lengths)} requests, {lengths.sum()} tokens; device tokens per token:")
    for name, plan in plans.items():
        figures = plan.statistics
        ratio = figures["device_tokens"] / lengths.sum()
        print(f"{name:30}{ratio:5.2f} in {len(plan.shapes)} shapes, {len(plan)} batches")

    print(f"\nthe best 4 padded lengths: {choose_lengths(lengths, 4).tolist()}")
    plan = plans["best lengths, at most 8"]
    first = pad_rows(tokens, offsets, plan.batch_rows(0), int(plan.batch_shapes[0, 1]), 0)
    print(f"the first batch: {first.dtype}{list(first.shape)}, {np.count_nonzero(first == 0)} padding tokens")


if __name__ == "__main__":
    main()
