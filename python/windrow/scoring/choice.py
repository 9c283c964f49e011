"""Chooses how the inputs of a run are put into rows: one per row, packed, or as prefix trees.

A plan of each kind is made and priced, and the cheapest is used. The price of a row comes from XLA's cost
analysis of the model's forward pass, lowered (but not compiled) for a short and a long row; if a backend
has no cost analysis, from its tokens. Each shape after the first is charged :data:`SHAPE_PRICE` for its
compilation. Prices are the same on every host.
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
"""The price of compiling a shape, in tokens of a short row."""

EXPONENTIAL = 64
"""How many floating-point operations an exponential counts as, including a softmax's passes over memory.
Measured on a CPU, with rows of 128 and 512 tokens of a small Llama."""

SHORT, LONG = 128, 2048


@dataclass(frozen=True)
class RowPrice:
    """A price that grows with the length and, because of attention, with its square.

    Attributes:
        growth: By how much each additional token of a row raises the price per token, as a
            fraction of the price per token in a row of :data:`SHORT` tokens.

    >>> price = RowPrice(0.001)
    >>> price(128), price(1128)
    (128.0, 2256.0)
    """

    growth: float = 0.0

    def __call__(self, length: int) -> float:
        """The price of a row of this length, at least half of its tokens."""
        return length * max(0.5, 1 + self.growth * (length - SHORT))

    @classmethod
    def of(cls, model: LanguageModel, params: Any, rows: int, multiple: int = 1) -> "RowPrice":
        """The price of a model's rows, computed at least ``rows`` at a time.

        Call it under the mesh that the model's functions are traced on. They are traced for
        rows whose lengths are a multiple of ``multiple``.
        """
        longest = max(2 * SHORT, min(LONG, model.max_length or LONG))
        lengths = -(-SHORT // multiple) * multiple, longest // multiple * multiple
        if lengths[1] <= lengths[0]:
            return cls()
        short, long = (_operations(model, params, (rows, length)) for length in lengths)
        if short is None or long is None:
            return cls()
        return cls((long * lengths[0] / (short * lengths[1]) - 1) / (lengths[1] - lengths[0]))


def _operations(model: LanguageModel, params: Any, shape: tuple[int, int]) -> float | None:
    """XLA's cost of a forward pass; ``None`` if it is unknown or the model rejects the shape."""
    batch = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
    try:
        account = jax.jit(partial(run_forward, model.forward)).lower(params, *batch).cost_analysis()
    except Exception:  # the run itself will raise it
        return None
    account = account[0] if isinstance(account, list) and account else account
    if not isinstance(account, Mapping) or not account.get("flops", 0) > 0:
        return None
    return float(account["flops"] + EXPONENTIAL * max(0.0, account.get("transcendentals", 0.0)))


def cost(plan: Plan, price: RowPrice) -> int:
    """The cost of a plan, in tokens of a short row: all its rows, filler included, and its shapes.

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
    """A plan, and the costs of the alternatives.

    Attributes:
        plan: The plan.
        costs: The cost of each layout's cheapest plan, in tokens of a short row; empty if the
            policy leaves no choice.
    """

    plan: Plan
    costs: dict[Layout, int]


def tells_segments_apart(functions: LanguageModel, params: Any, shape: tuple[int, int]) -> bool:
    """Whether a model uses positions or segment ids; one that uses neither cannot run packed rows.

    Call it under the mesh that the model's functions are traced on.
    """
    batch = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
    try:
        traced = jax.make_jaxpr(partial(run_forward, functions.forward))(params, *batch).jaxpr
    except Exception:  # the run itself will raise it
        return True
    read = [variable for equation in traced.eqns for variable in equation.invars]
    return any(variable is given for variable in read for given in traced.invars[-2:])


def candidates(policy: BatchPolicy, model: LanguageModel, chunk_length: int | None) -> list[Layout]:
    """The layouts that a policy allows for a model, before the model is checked.

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
        policy: A policy with a batch size.
        segments: The segments to plan.
        row_multiple: Rows of a batch are a multiple of this.
        layouts: The layouts to consider.
        price: The price of the model's rows.
        longest: The maximum length of packed rows, unless an input is longer.
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
    """Rejects trees for a model that cannot run them."""
    if share != "trees":
        return
    if chunk_length is not None:
        raise ValueError("share='trees' cannot be combined with chunk_length: step takes no reach")
    if not model.takes_reach:
        name = "apply" if model.hidden is None else "hidden"
        raise ValueError(
            f"share='trees' needs a model whose {name} has a parameter 'reach' and masks by it, as "
            "windrow.visible does; use share='equal' for this one"
        )
