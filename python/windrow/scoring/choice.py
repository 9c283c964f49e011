"""How the inputs of a run are laid into rows: one to a row, packed, or as prefix trees.

A plan of each kind is made and priced, and the cheapest one is taken. A row is priced by XLA's own account
of the model's forward pass, which is lowered for a short row and for a long one and not
compiled; where a backend gives no account, by its tokens. Each shape after the first is
charged what :data:`SHAPE_PRICE` says, for its compilation. Prices are the same on every host.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windrow.model import LanguageModel, run_forward
from windrow.planning import Plan
from windrow.policy import BatchPolicy
from windrow.scoring.feed import Layout
from windrow.tokens import Segments

SHAPE_PRICE = 8192
"""What a shape's compilation is charged, in tokens of a short row."""

EXPONENTIAL = 64
"""How many floating-point operations an exponential stands for, with the passes over memory that come with a
softmax. Measured on a CPU, for rows of 128 and 512 tokens of a small Llama."""

SHORT, LONG = 128, 2048


@dataclass(frozen=True)
class RowPrice:
    """A price that goes with the length and, by attention, with its square.

    Attributes:
        growth: By how much a token costs more for each token that its row is longer, as a
            part of what a token costs in a row of :data:`SHORT` tokens.

    >>> price = RowPrice(0.001)
    >>> price(128), price(1128)
    (128.0, 2256.0)
    """

    growth: float = 0.0

    def __call__(self, length: int) -> float:
        """What a row of this length costs; never less than half of its tokens."""
        return length * max(0.5, 1 + self.growth * (length - SHORT))

    @classmethod
    def of(cls, model: LanguageModel, params: Any, rows: int) -> "RowPrice":
        """The price of rows of a model, of which at least so many are computed at once.

        To be called under the mesh that the model's functions are traced on.
        """
        longer = max(2 * SHORT, min(LONG, model.max_length or LONG))
        short, long = (_operations(model, params, (rows, length)) for length in (SHORT, longer))
        if short is None or long is None:
            return cls()
        return cls((long * SHORT / (short * longer) - 1) / (longer - SHORT))


def _operations(model: LanguageModel, params: Any, shape: tuple[int, int]) -> float | None:
    """What XLA counts for a forward pass; ``None`` where it does not tell or the model refuses the shape."""
    batch = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
    try:
        account = jax.jit(partial(run_forward, model.forward)).lower(params, *batch).cost_analysis()
    except Exception:  # whatever it is, the run itself will tell
        return None
    account = account[0] if isinstance(account, list) and account else account
    if not isinstance(account, Mapping) or not account.get("flops", 0) > 0:
        return None
    return float(account["flops"] + EXPONENTIAL * max(0.0, account.get("transcendentals", 0.0)))


def cost(plan: Plan, price: RowPrice) -> int:
    """What a plan costs, in tokens of a short row: all its rows, filler too, and its shapes.

    >>> plan = Plan(np.array([5, 1, 3, 5, 2], np.int32), batch_size=2, padded_lengths=[8])
    >>> cost(plan, RowPrice())
    48
    """
    shapes, batches = np.unique(plan.batch_shapes, axis=0, return_counts=True)
    rows = sum(
        int(count) * int(rows) * price(int(length))
        for (rows, length), count in zip(shapes, batches, strict=True)
    )
    return round(rows + SHAPE_PRICE * max(0, len(shapes) - 1))


@dataclass(frozen=True)
class Chosen:
    """A plan, and what decided for it.

    Attributes:
        plan: The plan.
        costs: What the cheapest plan of each layout costs, in tokens of a short row; empty where
            the policy left no choice.
    """

    plan: Plan
    costs: dict[Layout, int]


def tells_segments_apart(functions: LanguageModel, params: Any, shape: tuple[int, int]) -> bool:
    """Whether a model reads positions or segment ids at all; one that reads neither cannot run packed rows.

    To be called under the mesh that the model's functions are traced on.
    """
    batch = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
    try:
        traced = jax.make_jaxpr(partial(run_forward, functions.forward))(params, *batch).jaxpr
    except Exception:  # whatever it is, the run itself will tell
        return True
    read = [variable for equation in traced.eqns for variable in equation.invars]
    return any(variable is given for variable in read for given in traced.invars[-2:])


def candidates(policy: BatchPolicy, model: LanguageModel, chunk_length: int | None) -> list[Layout]:
    """The layouts that a policy allows for a model, before any of them is tried.

    >>> model = LanguageModel(None, lambda params, tokens, positions, segment_ids: tokens)
    >>> candidates(BatchPolicy(), model, None), candidates(BatchPolicy(pack=True), model, None)
    (['rows', 'packed'], ['packed'])
    """
    if policy.share == "trees":
        return ["trees"]
    if policy.pack is True:
        return ["packed"]
    allowed: list[Layout] = ["rows"]
    if policy.pack == "auto":
        allowed.append("packed")
    if policy.share == "auto" and model.takes_reach and chunk_length is None:
        allowed.append("trees")
    return allowed


def choose_plan(
    policy: BatchPolicy,
    segments: Segments,
    row_multiple: int,
    layouts: Sequence[Layout],
    price: RowPrice,
    longest: int | None = None,
) -> Chosen:
    """The cheapest plan under a policy.

    Args:
        policy: With a size.
        segments: What is to be planned.
        row_multiple: Rows of a batch are a multiple of this.
        layouts: Which layouts to look at.
        price: What rows cost the model.
        longest: Packed rows are no longer than this, unless an input is.
    """
    if not len(segments) or layouts == ["rows"]:
        return Chosen(policy.plan(segments, row_multiple), {})
    plans: dict[Layout, list[Plan]] = {}
    if "rows" in layouts:
        plans["rows"] = [policy.plan(segments, row_multiple)]
    if "packed" in layouts:
        plans["packed"] = policy.packed_plans(segments, row_multiple, longest)
    if "trees" in layouts:
        plans["trees"] = [policy.tree_plan(segments, row_multiple, price)]
    costs = {layout: [cost(plan, price) for plan in made] for layout, made in plans.items()}
    best = min(costs, key=lambda layout: min(costs[layout]))
    cheapest = plans[best][int(np.argmin(costs[best]))]
    return Chosen(cheapest, {layout: min(found) for layout, found in costs.items()})


def check_share(share: bool | str, model: LanguageModel, chunk_length: int | None) -> None:
    """Refuses trees for a model that cannot run them."""
    if share != "trees":
        return
    if chunk_length is not None:
        raise ValueError("share='trees' and chunk_length exclude each other: step takes no reach")
    if not model.takes_reach:
        name = "apply" if model.hidden is None else "hidden"
        raise ValueError(
            f"share='trees' needs a model whose {name} has a parameter 'reach' and masks by it, as "
            "windrow.visible does; use share='equal' for this one"
        )
