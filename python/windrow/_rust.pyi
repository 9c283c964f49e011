from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Encoder",
    "Plan",
    "bucket_ids",
    "choose_lengths",
    "encode_texts",
    "group_identical",
    "invert_order",
    "length_order",
    "multihost_remap",
    "pack_rows",
    "pad_rows",
    "pair_segments",
    "prefix_order",
    "prefix_stems",
    "prompt_segments",
    "rolling_segments",
    "rolling_windows",
    "round_up",
    "spread_scores",
    "text_sizes",
    "token_lengths",
    "tree_rows",
]

@final
class Plan:
    def __new__(
        cls,
        lengths: NDArray[np.int32],
        identities: NDArray[np.int64] | None = None,
        *,
        prefixes: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None,
        row_prices: Sequence[int] | NDArray[np.int64] | None = None,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        row_multiple: int = 1,
        max_shapes: int | None = 8,
        padding_multiple: int = 1,
        padded_lengths: Sequence[int] | NDArray[np.int32] | None = None,
        shape_price: int = 8192,
        pack: bool = False,
        max_segments: int | None = None,
        longest_first: bool = True,
    ) -> Self: ...
    @classmethod
    def _from_bytes(cls, stored: bytes) -> Plan: ...
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[bytes]]: ...
    @property
    def segment_count(self) -> int: ...
    @property
    def packed(self) -> bool: ...
    @property
    def trees(self) -> bool: ...
    @property
    def shapes(self) -> NDArray[np.int32]: ...
    @property
    def batch_shapes(self) -> NDArray[np.int32]: ...
    @property
    def batches(self) -> NDArray[np.int32]: ...
    @property
    def rows(self) -> NDArray[np.int32]: ...
    @property
    def starts(self) -> NDArray[np.int32]: ...
    @property
    def own(self) -> NDArray[np.int32]: ...
    @property
    def parents(self) -> NDArray[np.int32]: ...
    @property
    def lengths(self) -> NDArray[np.int32]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def statistics(self) -> dict[str, Any]: ...
    def to_dict(self) -> dict[str, Any]: ...
    def batch_segments(
        self, batch: int, row_start: int = 0, row_stop: int | None = None
    ) -> NDArray[np.int64]: ...
    def batch_rows(self, batch: int) -> NDArray[np.int64]: ...
    def inputs(
        self,
        batch: int,
        tokens: NDArray[np.int32],
        offsets: NDArray[np.int64],
        row_start: int = 0,
        row_stop: int | None = None,
        fill: int = 0,
    ) -> NDArray[np.int32]: ...
    def targets(
        self,
        batch: int,
        tokens: NDArray[np.int32],
        offsets: NDArray[np.int64],
        row_start: int = 0,
        row_stop: int | None = None,
        fill: int = 0,
    ) -> NDArray[np.int32]: ...
    def segment_ids(
        self, batch: int, row_start: int = 0, row_stop: int | None = None
    ) -> NDArray[np.int32]: ...
    def positions(self, batch: int, row_start: int = 0, row_stop: int | None = None) -> NDArray[np.int32]: ...
    def reach(self, batch: int, row_start: int = 0, row_stop: int | None = None) -> NDArray[np.int32]: ...
    def row_lengths(
        self, batch: int, row_start: int = 0, row_stop: int | None = None
    ) -> NDArray[np.int32]: ...
    def reads(
        self,
        batch: int,
        tokens: NDArray[np.int32],
        offsets: NDArray[np.int64],
        score_starts: NDArray[np.int32],
        groups: int,
        pick_capacity: int,
        read_capacity: int,
        row_start: int = 0,
        row_stop: int | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]: ...
    def read_spans(
        self,
        batch: int,
        score_starts: NDArray[np.int32],
        groups: int,
        read_capacity: int,
        row_start: int = 0,
        row_stop: int | None = None,
    ) -> NDArray[np.int64]: ...
    def read_capacities(
        self, offsets: NDArray[np.int64], score_starts: NDArray[np.int32], groups: int = 1, multiple: int = 1
    ) -> NDArray[np.int32]: ...

def bucket_ids(lengths: NDArray[np.int32], bucket_lengths: NDArray[np.int32]) -> NDArray[np.int32]: ...
def choose_lengths(lengths: NDArray[np.int32], max_shapes: int, multiple: int = 1) -> NDArray[np.int32]: ...
def group_identical(tokens: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.int64]: ...
def invert_order(order: NDArray[np.int64]) -> NDArray[np.int64]: ...
def length_order(lengths: NDArray[np.int32], descending: bool = True) -> NDArray[np.int64]: ...

_Segments = tuple[
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int64],
    list[int],
    list[tuple[int, str]],
]

@final
class Encoder:
    def __new__(
        cls,
        json: str | None,
        encode: Callable[[list[str], bool], Sequence[Sequence[int] | str]],
        pattern: str | None = None,
    ) -> Self: ...
    def left(self, texts: list[str]) -> list[int]: ...

def encode_texts(
    encoder: Encoder, texts: Iterable[str], add_special_tokens: bool, bare_prefix: str | None
) -> _Segments: ...
def pair_segments(
    encoder: Encoder,
    pairs: Iterable[Sequence[str]],
    add_special_tokens: bool,
    bare_prefix: str | None,
    prefix_token_id: int | None,
    max_length: int | None,
    apart: bool,
) -> _Segments: ...
def prefix_stems(
    lengths: NDArray[np.int32],
    order: NDArray[np.int64],
    shared: NDArray[np.int32],
    limits: NDArray[np.int32],
    least: int,
    apart: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]: ...
def prompt_segments(
    encoder: Encoder,
    texts: Iterable[str],
    add_special_tokens: bool,
    bare_prefix: str | None,
    max_length: int | None,
    max_new_tokens: list[int],
) -> _Segments: ...
def rolling_segments(
    encoder: Encoder,
    texts: Iterable[str],
    add_special_tokens: bool,
    bare_prefix: str | None,
    prefix_token_id: int | None,
    max_length: int | None,
) -> _Segments: ...
def rolling_windows(
    lengths: NDArray[np.int64], max_length: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]: ...
def multihost_remap(size: int, global_batch_size: int, host_count: int) -> NDArray[np.int64]: ...
def pack_rows(
    lengths: NDArray[np.int32], capacity: int, max_segments: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]: ...
def pad_rows(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.int64], length: int, fill: int
) -> NDArray[np.int32]: ...
def prefix_order(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]: ...
def round_up(lengths: NDArray[np.int32], multiple: int) -> NDArray[np.int32]: ...
def spread_scores(
    segments: NDArray[np.int64],
    offsets: NDArray[np.int64],
    logprobs: NDArray[np.float32],
    greedy: NDArray[np.bool_],
    all_logprobs: NDArray[np.float32],
    all_greedy: NDArray[np.bool_],
) -> None: ...
def text_sizes(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def token_lengths(offsets: NDArray[np.int64]) -> NDArray[np.int32]: ...
def tree_rows(
    lengths: NDArray[np.int32], order: NDArray[np.int64], shared: NDArray[np.int32], capacity: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]: ...
