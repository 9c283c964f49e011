"""Turns request texts into ragged token arrays, as lm-eval does.

The result is a flat ``int32`` array of tokens and their ``int64`` offsets, computed in Rust on every core
with the GIL released. Three functions, one per request type, turn lm-eval's requests into segments; a
`Tokenizer` does everything else.

>>> tokenizer = load_tokenizer("path/to/model")  # doctest: +SKIP
>>> pairs = [("The cow", " eats"), ("The cow", " sleeps")]
>>> segments = loglikelihood_segments(tokenizer, pairs)  # doctest: +SKIP
>>> segments.tokens  # doctest: +SKIP
array([  464,  9875, 25365,   464,  9875, 46188], dtype=int32)
>>> segments.offsets, segments.score_starts  # doctest: +SKIP
(array([0, 3, 6]), array([2, 2], dtype=int32))
"""

from windrow.tokens.report import TokenReport
from windrow.tokens.segments import (
    Segments,
    generation_prompts,
    loglikelihood_segments,
    rolling_segments,
)
from windrow.tokens.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "Segments",
    "TokenReport",
    "Tokenizer",
    "generation_prompts",
    "load_tokenizer",
    "loglikelihood_segments",
    "rolling_segments",
]
