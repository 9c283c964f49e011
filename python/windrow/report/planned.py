"""Computes how requests would be batched, from segments and a policy, without a model.

Device time is assumed to be proportional to the tokens on the device, padding included. That is accurate for
the token-wise parts of a model, but an underestimate for attention, whose cost grows faster with length.
Compilations are extra; where they are counted, each costs the number of tokens that the plan charges for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.forks import Forking
from windrow.planning import Plan
from windrow.report.rivals import Cost, arrival_order, lm_eval_pairs, lm_eval_windows, reference_policy
from windrow.sizing.policy import BatchPolicy, sharing
from windrow.tokens import Segments

STORED_STATES = 64
"""How many states the devices are assumed to have memory for. The size of a state depends on the model."""


@dataclass(frozen=True)
class PlannedRequests:
    """The requests of one type, and the plan for them.

    Attributes:
        request_type: ``"loglikelihood"`` or ``"loglikelihood_rolling"``.
        own: The requests' own segments.
        firsts: ``int64[n]``, for each request, the first one with the same input before truncation.
        plan: The plan of those segments, followed by segments for shifted reads.
        trees: The plan in rows of prefix trees; ``None`` if nothing is shared, or rows are packed.
        forks: The cost of the same segments with forked states; ``None`` if ``trees`` is.
        rival_rows: The batch size of the alternatives.
    """

    request_type: str
    own: Segments
    firsts: NDArray[np.int64]
    plan: Plan
    trees: Plan | None
    forks: Cost | None
    rival_rows: int

    @classmethod
    def of(
        cls,
        request_type: str,
        own: Segments,
        segments: Segments,
        policy: BatchPolicy,
        devices: int,
        firsts: NDArray[np.int64] | None = None,
    ) -> "PlannedRequests":
        """Plans as :class:`~windrow.JaxLM` does on this number of devices.

        ``firsts`` may be omitted if no segment was truncated.
        """
        plan = policy.plan(segments, devices)
        shared = policy.share and policy.pack is not True and len(segments)
        trees = policy.tree_plan(segments, devices) if shared else None
        forks = _forked(policy, segments, devices) if shared else None
        firsts = own.equal_inputs if firsts is None else firsts
        return cls(request_type, own, firsts, plan, trees, forks, _rival_rows(plan, devices))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """``int64[n]``: the input length of each of the requests' own segments."""
        return self.own.input_lengths.astype(np.int64)

    @cached_property
    def shares(self) -> NDArray[np.bool_]:
        """``bool[n]``: whether a segment shares an earlier segment's place in a row."""
        return sharing(self.plan, len(self.own))

    @cached_property
    def row_lengths(self) -> NDArray[np.int64]:
        """``int64[rows, 2]``: the tokens and the padded length of each row, including filler."""
        shapes = self.plan.batch_shapes.astype(np.int64)
        begins = np.concatenate([[0], np.cumsum(shapes[:, 0])])
        row = begins[self.plan.batches] + self.plan.rows
        used = np.zeros(begins[-1], np.int64)
        # Segments that share a place have equal lengths; the last place of a row decides how full it is.
        np.maximum.at(used, row, self.plan.starts.astype(np.int64) + self.plan.lengths)
        return np.stack([used, np.repeat(shapes[:, 1], shapes[:, 0])], axis=1)

    @cached_property
    def rivals(self) -> dict[str, Cost]:
        """The cost of each alternative, by name."""
        backend = lm_eval_windows if self.request_type == "loglikelihood_rolling" else lm_eval_pairs
        return {
            "arrival_order": arrival_order(self.lengths, self.rival_rows),
            "lm_eval": backend(self.lengths, self.firsts, self.rival_rows),
            "reference": reference_policy(self.lengths, self.rival_rows),
        }

    def figures(self) -> dict[str, Any]:
        """The plan's figures, ready for JSON."""
        statistics, own = self.plan.statistics, self.own
        return {
            "request_type": self.request_type,
            "requests": own.request_count,
            "segments": len(own),
            "shifted_reads": self.plan.segment_count - len(own),
            "shared": int(self.shares.sum()),
            "truncated": len(own.report.truncated),
            "skipped": len(own.skipped),
            "rows": statistics["rows"],
            "filler_rows": statistics["filler_rows"],
            "batches": statistics["batches"],
            "tokens": {
                "real": int(self.lengths.sum()),
                "rows": statistics["row_tokens"],
                "padding": statistics["padding_tokens"],
                "device": statistics["device_tokens"],
            },
            "longest": int(self.lengths.max(initial=0)),
            "shapes": self._shapes(),
            "trees": self._tree_figures(),
            "forks": self.forks
            and {
                "device_tokens": self.forks.device_tokens,
                "shapes": [{"rows": rows, "length": length} for rows, length in sorted(self.forks.shapes)],
            },
            "rival_rows": self.rival_rows,
            "fingerprint": self.plan.fingerprint,
        }

    def _tree_figures(self) -> dict[str, Any] | None:
        """The figures of the plan in tree rows, and the number of tokens it saves."""
        if self.trees is None:
            return None
        statistics = self.trees.statistics
        return {
            "saved": {
                "equal_inputs": statistics["real_tokens"] - statistics["distinct_tokens"],
                "shared_prefixes": statistics["distinct_tokens"] - statistics["tree_tokens"],
            },
            "rows": statistics["rows"],
            "batches": statistics["batches"],
            "tokens": {
                "tree": statistics["tree_tokens"],
                "repeated": statistics["repeated_tokens"],
                "padding": statistics["padding_tokens"],
                "device": statistics["device_tokens"],
            },
            "shapes": [
                {
                    "rows": shape[0],
                    "length": shape[1],
                    "batches": self.trees.batch_shapes.tolist().count(shape),
                }
                for shape in self.trees.shapes.tolist()
            ],
        }

    def _shapes(self) -> list[dict[str, int]]:
        """For each shape, its number of batches and padding tokens."""
        used, padded = self.row_lengths.T
        rows_each = np.repeat(self.plan.batch_shapes[:, 0], self.plan.batch_shapes[:, 0])
        described = []
        for rows, length in self.plan.shapes.tolist():
            here = (padded == length) & (rows_each == rows)
            described.append(
                {
                    "rows": rows,
                    "length": length,
                    "batches": int(here.sum()) // rows,
                    "padding": int((padded - used)[here].sum()),
                }
            )
        return described


def compare(planned: Sequence[PlannedRequests]) -> list[dict[str, Any]]:
    """Compares this plan with the alternatives, over all request types.

    Returns:
        For ``plan``, ``trees`` and ``forks`` (if all types have them), ``arrival_order``, ``lm_eval``
        and ``reference``: ``name``, ``device_tokens``, ``per_real_token``, ``shapes``, and the fraction
        of the alternative's device time that this plan saves: ``saved``, and
        ``saved_with_compilations``.
    """
    figures = [each.figures() for each in planned]
    real = sum(each["tokens"]["real"] for each in figures)
    costs = {"plan": sum((_cost(each) for each in figures), Cost(0, frozenset()))}
    if all(each["trees"] for each in figures):
        costs["trees"] = sum((_cost(each["trees"]) for each in figures), Cost(0, frozenset()))
        costs["forks"] = sum((each.forks for each in planned if each.forks), Cost(0, frozenset()))
    for each in planned:
        for name, cost in each.rivals.items():
            costs[name] = costs.get(name, Cost(0, frozenset())) + cost
    price = planned[0].plan.to_dict()["policy"]["shape_price"] if planned else 0
    ours = costs["plan"]

    def saved(cost: Cost, price: int) -> float:
        theirs = cost.device_tokens + price * len(cost.shapes)
        return 1 - (ours.device_tokens + price * len(ours.shapes)) / max(1, theirs)

    return [
        {
            "name": name,
            "device_tokens": cost.device_tokens,
            "per_real_token": cost.device_tokens / max(1, real),
            "shapes": len(cost.shapes),
            "saved": saved(cost, 0),
            "saved_with_compilations": saved(cost, price),
        }
        for name, cost in costs.items()
    ]


def _cost(figures: dict[str, Any]) -> Cost:
    """The cost of the batches in these figures."""
    shapes = frozenset((shape["rows"], shape["length"]) for shape in figures["shapes"])
    return Cost(figures["tokens"]["device"], shapes)


def _forked(policy: BatchPolicy, segments: Segments, devices: int) -> Cost:
    """The cost of segments that start from the states of their shared prefixes."""
    plan = Forking(None, STORED_STATES).plan(policy, segments, devices)
    tokens = plan.batch_shapes[:, 0].astype(np.int64) @ plan.columns
    return Cost(int(tokens), frozenset((rows, length) for rows, length in plan.shapes.tolist()))


def _rival_rows(plan: Plan, devices: int) -> int:
    """The plan's batch size, or the number of rows of the longest segment that fit in its tokens."""
    policy = plan.to_dict()["policy"]
    if "batch_size" in policy:
        return int(policy["batch_size"])
    longest = int(plan.lengths.max(initial=1))
    return max(devices, int(policy["tokens_per_batch"]) // longest // devices * devices)
