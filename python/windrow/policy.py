"""How segments are to be batched, and the plan that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windrow.planning import Plan, group_identical, prefix_order
from windrow.sizing import read_bytes
from windrow.tokens import Segments

SHARES = ("auto", "trees", "equal", False)
"""What ``share`` may be."""

LEAST_TREE_ROW, LONGEST_TREE_ROW = 16, 8192
"""Rows of trees are at least so long, and no longer than this unless an input is."""

DEFAULT_TOKENS_PER_BATCH = 8192
"""Tokens a batch where neither ``batch_size`` nor ``tokens_per_batch`` is given."""

SAMPLE_LENGTH = 8
"""How many tokens a row has, where that is possible, in the batch that functions are tried in."""


@dataclass(frozen=True)
class BatchPolicy:
    """What decides the batches of a run; the defaults suit most runs.

    Attributes:
        batch_size: Rows per batch.
        tokens_per_batch: The most tokens in a batch, padding included, so that short
            rows come in larger batches. Where neither is given, 8,192, or as many as
            one row of the longest segment needs on each device. ``"auto"``: as many
            as fit in the devices' memory, up to the point where more no longer helps.
        memory_budget: For ``"auto"``: how many bytes batches may take beside the
            parameters, of each device, or of each process where the devices are
            CPUs; a number, or a string such as ``"2GiB"``. By default what devices
            have left; of a CPU's memory, half of what is available.
        max_shapes: The most distinct batch shapes, each of which is one compilation;
            ``None`` pads to every multiple that occurs.
        padding_multiple: Padded lengths are multiples of this.
        share: What of the inputs is computed once. ``"equal"``: inputs that are equal.
            ``"trees"``: every shared beginning, for models that take ``reach``. ``"auto"``:
            whichever of the two costs the device less; equal inputs where there is no such
            model. ``False``: nothing.
        pack: Whether several segments share a row; only for models that honour
            segment ids and positions.
    """

    batch_size: int | None = None
    tokens_per_batch: int | Literal["auto"] | None = None
    max_shapes: int | None = 8
    padding_multiple: int = 1
    share: bool | str = "auto"
    pack: bool = False
    memory_budget: int | str | None = None

    def __post_init__(self) -> None:
        """Refuses what is no number or below 1, two batch sizes at once, and a budget without effect."""
        if self.batch_size is not None and self.tokens_per_batch is not None:
            raise ValueError("give batch_size or tokens_per_batch, not both")
        if isinstance(self.tokens_per_batch, str) and not self.sizes_itself:
            raise ValueError(
                f"tokens_per_batch must be a whole number or 'auto', not {self.tokens_per_batch!r}"
            )
        numbers: dict[str, Any] = {"batch_size": self.batch_size, "max_shapes": self.max_shapes}
        if not self.sizes_itself:
            numbers["tokens_per_batch"] = self.tokens_per_batch
        given = {name: value for name, value in numbers.items() if value is not None}
        for name, value in {**given, "padding_multiple": self.padding_multiple}.items():
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.share is True:
            object.__setattr__(self, "share", "auto")
        if self.share not in SHARES:
            raise ValueError(f"share must be 'auto', 'trees', 'equal' or False, not {self.share!r}")
        if self.share == "trees" and self.pack:
            raise ValueError("share='trees' packs rows already; leave out pack")
        if self.memory_budget is not None:
            if not self.sizes_itself:
                raise ValueError("memory_budget is for tokens_per_batch='auto' alone; give that too")
            object.__setattr__(self, "memory_budget", read_bytes("memory_budget", self.memory_budget))

    @property
    def sizes_itself(self) -> bool:
        """Whether the memory of the devices decides how large batches are."""
        return self.tokens_per_batch == "auto"

    @property
    def budget_bytes(self) -> int | None:
        """The memory budget in bytes; ``None`` for what devices have left."""
        return None if self.memory_budget is None else read_bytes("memory_budget", self.memory_budget)

    def sized(self, tokens: int) -> "BatchPolicy":
        """The same policy with so many tokens a batch."""
        return replace(self, tokens_per_batch=tokens, memory_budget=None)

    def plan(self, segments: Segments, row_multiple: int) -> Plan:
        """The plan for these segments, with rows a multiple of ``row_multiple``.

        Raises:
            ValueError: The policy sizes itself, which takes the model and its devices.
        """
        if self.sizes_itself:
            raise ValueError(
                "tokens_per_batch='auto' needs a model on its devices; give a number of tokens here"
            )
        if self.share == "trees" and len(segments):
            return self.tree_plan(segments, row_multiple)
        lengths = (np.diff(segments.offsets) - 1).astype(np.int32)
        return Plan(
            lengths,
            equal_inputs(segments) if self.share and len(lengths) else None,
            **self._rows(lengths, row_multiple),
            row_multiple=row_multiple,
            max_shapes=self.max_shapes,
            padding_multiple=self.padding_multiple,
            pack=self.pack,
        )

    def tree_plan(self, segments: Segments, row_multiple: int, price: Callable[[int], float] = float) -> Plan:
        """The plan whose rows hold prefix trees, of the row lengths that cost the least.

        A batch has no more tokens than one of :meth:`plan`.

        Args:
            segments: What is to be planned.
            row_multiple: Rows of a batch are a multiple of this.
            price: What a row of some length costs.
        """
        tokens, offsets = model_inputs(segments)
        lengths = np.diff(offsets).astype(np.int32)
        least = self._rounded(max(LEAST_TREE_ROW, self._longest(lengths)))
        most = max(self._tokens(lengths, row_multiple), least * row_multiple)
        powers = [1 << power for power in range(4, LONGEST_TREE_ROW.bit_length())]
        longer = {self._rounded(length) for length in powers if length <= most // row_multiple}
        candidates = sorted({least, *(length for length in longer if least < length <= most // row_multiple)})
        return Plan(
            lengths,
            prefixes=prefix_order(tokens, offsets),
            padded_lengths=candidates,
            row_prices=[max(1, round(price(length))) for length in candidates],
            tokens_per_batch=most,
            row_multiple=row_multiple,
            max_shapes=self.max_shapes or len(candidates),
        )

    def _tokens(self, lengths: NDArray[np.int32], row_multiple: int) -> int:
        """The most tokens of a batch."""
        given = self._rows(lengths, row_multiple)
        if "batch_size" in given:
            return int(given["batch_size"]) * self._longest(lengths)
        return int(given["tokens_per_batch"])

    def _rounded(self, length: int) -> int:
        return -(-length // self.padding_multiple) * self.padding_multiple

    def _rows(self, lengths: NDArray[np.int32], row_multiple: int) -> dict[str, Any]:
        if self.batch_size is not None:
            return {"batch_size": self.batch_size}
        if self.tokens_per_batch is not None:
            return {"tokens_per_batch": self.tokens_per_batch}
        return {"tokens_per_batch": max(DEFAULT_TOKENS_PER_BATCH, self._longest(lengths) * row_multiple)}

    def split(self, parts: int) -> "BatchPolicy":
        """The same policy, with padded lengths that so many devices can share equally."""
        return replace(self, padding_multiple=lcm(self.padding_multiple, parts))

    def sample_shape(self, row_multiple: int, max_length: int | None) -> tuple[int, int]:
        """``(rows, length)`` of some short batch under this policy, to try functions in.

        >>> BatchPolicy(batch_size=4, padding_multiple=128).sample_shape(2, 1024)
        (4, 128)
        """
        rows = -(-(self.batch_size or 1) // row_multiple) * row_multiple
        length = min(SAMPLE_LENGTH, max_length or SAMPLE_LENGTH)
        return rows, -(-length // self.padding_multiple) * self.padding_multiple

    def longest(self, segments: Segments) -> int:
        """The padded length of the longest segment's input."""
        return self._longest(np.diff(segments.offsets) - 1)

    def _longest(self, lengths: NDArray[Any]) -> int:
        return self._rounded(int(lengths.max(initial=1)))


def equal_inputs(segments: Segments) -> NDArray[np.int64]:
    """``int64[n]``: the first segment with the same model input, which is all tokens but the last."""
    return group_identical(*model_inputs(segments))


def model_inputs(segments: Segments) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Tokens, ``int32[t - n]``, and offsets, ``int64[n + 1]``, of the inputs: all but each last token."""
    keep = np.ones(len(segments.tokens), np.bool_)
    keep[segments.offsets[1:] - 1] = False
    return segments.tokens[keep], segments.offsets - np.arange(len(segments.offsets))


def sharing(plan: Plan, count: int) -> NDArray[np.bool_]:
    """``bool[count]``: which of a plan's first segments lie where an earlier one lies already."""
    if plan.trees:
        # A whole input that is its parent's beginning is its parent: of two inputs of which one begins
        # the other, the shorter one stands first.
        whole: NDArray[np.bool_] = plan.own[:count] == plan.lengths[:count]
        return whole
    places = np.stack([plan.batches, plan.rows, plan.starts])[:, :count]
    first = np.unique(places, axis=1, return_index=True)[1]
    return ~np.isin(np.arange(count), first)
