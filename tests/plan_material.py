"""Random sequences and policies for plans."""

import numpy as np
from hypothesis import strategies as st

from int_arrays import i32
from windrow.planning import group_identical


class Material:
    """Token sequences, some with equal inputs; each has its own last token and scored tokens."""

    def __init__(self, segments):
        inputs = [[100 * kind + at for at in range(length)] for length, kind, _, _ in segments]
        sequences = [[*tokens, last] for tokens, (_, _, last, _) in zip(inputs, segments, strict=True)]
        self.sequences = [np.array(tokens, np.int32) for tokens in sequences]
        self.tokens = np.concatenate([i32(), *self.sequences])
        self.offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
        self.lengths = (np.diff(self.offsets) - 1).astype(np.int32)
        self.score_starts = np.array([1 + at % length for length, _, _, at in segments], np.int32)
        flat = np.concatenate([i32(), *(np.array(tokens, np.int32) for tokens in inputs)])
        self.identities = group_identical(flat, self.offsets - np.arange(len(self.offsets)))


materials = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 2), st.integers(0, 300), st.integers(0, 29)),
    min_size=1,
    max_size=40,
).map(Material)

policies = st.fixed_dictionaries(
    {},
    optional={
        "max_shapes": st.none() | st.integers(1, 5),
        "padding_multiple": st.integers(1, 8),
        "shape_price": st.integers(0, 50),
        "pack": st.booleans(),
        "longest_first": st.booleans(),
    },
)
row_policies = st.sampled_from(
    [
        {"batch_size": 1},
        {"batch_size": 4, "row_multiple": 4},
        {"tokens_per_batch": 40},
        {"tokens_per_batch": 200, "row_multiple": 4},
    ]
)
