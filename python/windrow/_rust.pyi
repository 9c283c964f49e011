from collections.abc import Callable, Iterable, Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

def length_order(lengths: NDArray[np.int32], descending: bool = True) -> NDArray[np.int64]: ...

_Segments = tuple[
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int64],
    int,
    list[tuple[int, str]],
]
_Encode = Callable[[list[str], bool], Sequence[Sequence[int]]]

@final
class Encoder:
    def __new__(cls, json: str) -> Self: ...

def encode_texts(
    encoder: Encoder | _Encode, texts: Iterable[str], add_special_tokens: bool, bare_prefix: str | None
) -> _Segments: ...
def pair_segments(
    encoder: Encoder | _Encode,
    pairs: Iterable[Sequence[str]],
    add_special_tokens: bool,
    bare_prefix: str | None,
    prefix_token_id: int | None,
    max_length: int | None,
    apart: bool,
) -> _Segments: ...
def prompt_segments(
    encoder: Encoder | _Encode,
    texts: Iterable[str],
    add_special_tokens: bool,
    bare_prefix: str | None,
    max_length: int | None,
    max_new_tokens: list[int],
) -> _Segments: ...
def rolling_segments(
    encoder: Encoder | _Encode,
    texts: Iterable[str],
    add_special_tokens: bool,
    bare_prefix: str | None,
    prefix_token_id: int | None,
    max_length: int | None,
) -> _Segments: ...
