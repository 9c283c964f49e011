"""Determines how segments are batched, and makes the plan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windrow.admission import admit_whole, kind_of, read_bytes
from windrow.planning import Plan
from windrow.tokens import Segments

SHARES = ("auto", "trees", "forks", "equal", False)
"""The values of ``share``."""

LEAST_ROW, LONGEST_ROW = 16, 8192
"""Bounds on the length of rows with several inputs, in tokens; a longer input raises the upper bound."""

SHORT_ROW = 128
"""The shortest candidate for rows of trees, in tokens. Attention hardly costs less in shorter rows."""

DEFAULT_TOKENS_PER_BATCH = 8192
"""Tokens per batch if neither ``batch_size`` nor ``tokens_per_batch`` is given."""

SHAPE_PRICE = 8192
"""The price of compiling a shape, in tokens, if nothing is known about the model."""

SAMPLE_LENGTH = 8
"""The row length of the batch in which the model's functions are traced, if the policy allows it."""


@dataclass(frozen=True)
class BatchPolicy:
    """How requests are batched. The defaults suit most runs.

    Attributes:
        batch_size: Rows per batch.
        tokens_per_batch: The maximum number of tokens in a batch, padding included, so batches of short rows
            have more rows. The default, if there is no ``batch_size`` either, is 8,192, or one row of the
            longest segment per device if that is more. ``"auto"``: as many as fit in device memory, up to the
            point where more no longer helps.
        memory_budget: For ``"auto"``: how many bytes batches may use in addition to the parameters, per
            device, or per process if the devices are CPUs; a number, or a string such as ``"2GiB"``. Default:
            all free device memory; on CPUs, half of the available memory.
        max_shapes: The maximum number of distinct batch shapes, each of which takes one compilation;
            ``None``: no maximum, so lengths are rounded up to ``padding_multiple``.
        padding_multiple: Padded lengths are multiples of this.
        share: Which work is shared between inputs. ``"equal"``: equal inputs run once. ``"trees"``: every
            shared prefix runs once, for models that take ``reach``. ``"forks"``: shared prefixes run once,
            and the inputs that begin with them start from a copy of the state, for models with ``step``.
            ``"auto"``: the cheapest on the device: trees for models that take ``reach``, forks for other
            models with ``step``, or ``"equal"``. ``False``: nothing is shared.
        pack: Whether to put several segments in one row, for models that use segment ids and positions.
            ``"auto"``: if that is cheaper on the device and a test batch gives the same results; plans made
            without a model are not packed.
    """

    batch_size: int | None = None
    tokens_per_batch: int | Literal["auto"] | None = None
    max_shapes: int | None = 8
    padding_multiple: int = 1
    share: bool | str = "auto"
    pack: bool | str = "auto"
    memory_budget: int | str | None = None

    def __post_init__(self) -> None:
        """Rejects invalid numbers, two batch sizes at once, and a budget that would have no effect."""
        if self.batch_size is not None and self.tokens_per_batch is not None:
            raise ValueError("give batch_size or tokens_per_batch, not both")
        if isinstance(self.tokens_per_batch, str) and not self.sizes_itself:
            raise ValueError(
                f"tokens_per_batch must be a whole number or 'auto', not {self.tokens_per_batch!r}"
            )
        numbers: dict[str, Any] = {"batch_size": self.batch_size, "max_shapes": self.max_shapes}
        if not self.sizes_itself:
            numbers["tokens_per_batch"] = self.tokens_per_batch
        rows: Any = self.batch_size
        if isinstance(rows, str) and rows.startswith("auto"):
            raise ValueError(
                f"batch_size must be a number, not {rows!r}; for batches sized to fit memory, "
                "pass tokens_per_batch='auto'"
            )
        given = {name: value for name, value in numbers.items() if value is not None}
        for name, value in {**given, "padding_multiple": self.padding_multiple}.items():
            admit_whole(name, value)
        if self.share is True:
            object.__setattr__(self, "share", "auto")
        if self.share not in SHARES:
            raise ValueError(f"share must be 'auto', 'trees', 'forks', 'equal' or False, not {self.share!r}")
        if not isinstance(self.pack, bool) and self.pack != "auto":
            raise ValueError(f"pack must be 'auto', True or False, not {self.pack!r}")
        if self.share == "trees" and self.pack is True:
            raise ValueError("share='trees' already packs rows; leave out pack")
        if self.share == "forks" and self.pack is True:
            raise ValueError("share='forks' has one input per row; leave out pack")
        if self.memory_budget is not None:
            if not self.sizes_itself:
                raise ValueError("memory_budget needs tokens_per_batch='auto'")
            object.__setattr__(self, "memory_budget", read_bytes("memory_budget", self.memory_budget))

    @property
    def sizes_itself(self) -> bool:
        """Whether the batch size depends on device memory."""
        return self.tokens_per_batch == "auto"

    @property
    def budget_bytes(self) -> int | None:
        """The memory budget in bytes; ``None`` for all free memory."""
        return None if self.memory_budget is None else read_bytes("memory_budget", self.memory_budget)

    def sized(self, tokens: int) -> "BatchPolicy":
        """The same policy with ``tokens`` tokens per batch."""
        return replace(self, tokens_per_batch=tokens, memory_budget=None)

    def check_groups(self, groups: int) -> None:
        """Rejects a ``batch_size`` that cannot be divided among ``groups`` groups of rows."""
        if self.batch_size is not None and self.batch_size % groups:
            raise ValueError(
                f"batch_size is {self.batch_size}; it must be a multiple of {groups}, the number of groups "
                "that the sharding splits rows into"
            )

    def plan(self, segments: Segments, row_multiple: int, shape_price: int = SHAPE_PRICE) -> Plan:
        """The plan for these segments, with rows a multiple of ``row_multiple``.

        Compiling a shape is charged ``shape_price`` tokens.

        Raises:
            ValueError: The policy sizes itself, which requires the model and its devices.
        """
        if self.sizes_itself:
            raise ValueError(
                "tokens_per_batch='auto' needs a model on its devices; give a number of tokens here"
            )
        if self.share == "forks":
            raise ValueError("share='forks' needs a model with step; JaxLM and windrow.score take it")
        if self.share == "trees" and len(segments):
            return self.tree_plan(segments, row_multiple, shape_price=shape_price)
        equal = segments.equal_inputs if self.share and len(segments) else None
        pack = self.pack is True
        return self.rows_of(segments.input_lengths, row_multiple, equal, pack=pack, shape_price=shape_price)

    def rows_of(
        self,
        lengths: NDArray[np.int32],
        row_multiple: int,
        identities: NDArray[np.int64] | None = None,
        *,
        pack: bool = False,
        shape_price: int = SHAPE_PRICE,
    ) -> Plan:
        """The plan for inputs of these lengths, ``int32[n]``, one per row unless they are packed.

        Args:
            lengths: The lengths.
            row_multiple: Rows of a batch are a multiple of this.
            identities: Inputs with the same identity share a place; see :class:`windrow.Plan`.
            pack: Whether rows hold several inputs.
            shape_price: The price of compiling a shape, in tokens.
        """
        return Plan(
            lengths,
            identities,
            **self._rows(lengths, row_multiple),
            row_multiple=row_multiple,
            max_shapes=self.max_shapes,
            padding_multiple=self.padding_multiple,
            shape_price=shape_price,
            pack=pack,
        )

    def packed_plans(self, segments: Segments, row_multiple: int, longest: int | None = None) -> list[Plan]:
        """Plans with several inputs per row, one for each row length that may be the best.

        Args:
            segments: The segments to plan.
            row_multiple: Rows of a batch are a multiple of this.
            longest: The maximum row length, unless an input is longer.
        """
        if self.batch_size is not None:
            return [replace(self, pack=True).plan(segments, row_multiple)]
        most, candidates = self._row_lengths(segments.input_lengths, row_multiple, longest)
        return [
            Plan(
                segments.input_lengths,
                segments.equal_inputs if self.share else None,
                tokens_per_batch=most,
                row_multiple=row_multiple,
                padded_lengths=[length],
                pack=True,
            )
            for length in candidates
        ]

    def tree_plan(
        self,
        segments: Segments,
        row_multiple: int,
        price: Callable[[int], float] = float,
        shape_price: int = SHAPE_PRICE,
    ) -> Plan:
        """The plan whose rows hold prefix trees, with the cheapest row lengths.

        A batch has no more tokens than one of :meth:`plan`.

        Args:
            segments: The segments to plan.
            row_multiple: Rows of a batch are a multiple of this.
            price: The price of a row of a given length.
            shape_price: The price of compiling a shape.
        """
        most, candidates = self._row_lengths(segments.input_lengths, row_multiple)
        if self.max_shapes != 1:
            candidates = sorted({*candidates, *self._shorter(candidates[0])})
        return Plan(
            segments.input_lengths,
            prefixes=segments.input_order,
            padded_lengths=candidates,
            row_prices=[max(1, round(price(length))) for length in candidates],
            tokens_per_batch=most,
            row_multiple=row_multiple,
            max_shapes=self.max_shapes or len(candidates),
            shape_price=shape_price,
        )

    def _row_lengths(
        self, lengths: NDArray[np.int32], row_multiple: int, longest: int | None = None
    ) -> tuple[int, list[int]]:
        """The maximum tokens per batch, and the candidate lengths of rows with several inputs, ascending."""
        least = self._rounded(max(LEAST_ROW, self._longest(lengths)))
        most = max(self._tokens(lengths, row_multiple), least * row_multiple)
        longer = {self._rounded(power) for power in _powers(LEAST_ROW) if power <= (longest or power)}
        return most, sorted({least, *(length for length in longer if least < length <= most // row_multiple)})

    def _shorter(self, length: int) -> list[int]:
        """Row lengths for inputs shorter than the longest one."""
        return [short for power in _powers(SHORT_ROW) if (short := self._rounded(power)) < length]

    def _tokens(self, lengths: NDArray[np.int32], row_multiple: int) -> int:
        """The maximum number of tokens in a batch."""
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
        """The same policy, with padded lengths that are divisible by ``parts``."""
        return replace(self, padding_multiple=lcm(self.padding_multiple, parts))

    def sample_shape(self, row_multiple: int, max_length: int | None) -> tuple[int, int]:
        """``(rows, length)`` of a short batch under this policy, for tracing the model's functions.

        >>> BatchPolicy(batch_size=4, padding_multiple=128).sample_shape(2, 1024)
        (4, 128)
        """
        rows = -(-(self.batch_size or 1) // row_multiple) * row_multiple
        length = min(SAMPLE_LENGTH, max_length or SAMPLE_LENGTH)
        return rows, -(-length // self.padding_multiple) * self.padding_multiple

    def longest(self, segments: Segments) -> int:
        """The padded length of the longest segment's input."""
        return self._longest(segments.input_lengths)

    def _longest(self, lengths: NDArray[Any]) -> int:
        return self._rounded(int(lengths.max(initial=1)))


def admit_policy(policy: Any) -> BatchPolicy:
    """``policy``, or the defaults for ``None``.

    Raises:
        TypeError: It is anything else.

    >>> admit_policy({"batch_size": 8})
    Traceback (most recent call last):
    TypeError: policy must be a windrow.BatchPolicy, such as BatchPolicy(batch_size=32), not a dict
    """
    if policy is None:
        return BatchPolicy()
    if not isinstance(policy, BatchPolicy):
        raise TypeError(
            f"policy must be a windrow.BatchPolicy, such as BatchPolicy(batch_size=32), not {kind_of(policy)}"
        )
    return policy


def _powers(least: int) -> list[int]:
    """The powers of two from ``least`` to the longest row."""
    return [1 << power for power in range(least.bit_length() - 1, LONGEST_ROW.bit_length())]


def sharing(plan: Any, count: int) -> NDArray[np.bool_]:
    """``bool[count]``: which of a plan's first segments share an earlier segment's place in a row."""
    if plan.trees:
        # An input that adds no token to its parent equals it: of an input and its extension, the
        # shorter comes first.
        whole: NDArray[np.bool_] = plan.own[:count] == plan.lengths[:count]
        return whole
    places = np.stack([plan.batches, plan.rows, plan.starts])[:, :count]
    first = np.unique(places, axis=1, return_index=True)[1]
    return ~np.isin(np.arange(count), first)
