"""Chooses how the inputs of a run are put into rows: one per row, packed, or as prefix trees.

It makes a plan of each kind, estimates its cost, and uses the cheapest. The estimated cost, or *price*, of a
row comes from the operations of the model's forward pass, traced (but not compiled) for a short and a long
row. Each shape after the first is charged for its compilation, which matters more the smaller the model is.
Prices are the same on every host.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from windrow.forks import Forking, ForkPlan
from windrow.model import LanguageModel, run_forward
from windrow.planning import Plan
from windrow.scoring.feed import Layout
from windrow.scoring.operations import operations
from windrow.sizing.policy import SHAPE_PRICE, BatchPolicy
from windrow.tokens import Segments

ScoringPlan = Plan | ForkPlan
"""How the inputs of a run are put into rows."""

COMPILE_OPERATIONS = {"cpu": 2e11}
"""Roughly how many floating-point operations the devices could do while a shape is compiled, by platform.
Measured on two CPU cores: 3 seconds at 65 billion operations a second."""

COMPILE_OPERATIONS_ELSEWHERE = 5e14
"""The same on other platforms: 5 seconds at 100 trillion operations a second."""

LEAST_SHAPE_PRICE, MOST_SHAPE_PRICE = 1024, 1 << 18
"""Bounds on the price of compiling a shape, in tokens of a short row."""

STATE_PRICE = 8
"""The price of copying a row's state, in tokens of a short row."""

CHOICE = 0.25
"""The cost of choosing a layout, relative to compiling a shape: on two CPU cores, pricing rows and checking
the layout took 0.5 seconds, and compiling 2."""

SHORT, LONG = 128, 2048


@dataclass(frozen=True)
class RowPrice:
    """The price of a row, which grows with its length and, because of attention, with its square.

    Attributes:
        growth: How much each additional token in a row raises the price per token, as a fraction of the price
            per token in a row of :data:`SHORT` tokens.
        step: The price of a token that runs through ``step``, relative to one of a short row.
        shape: The price of compiling a shape, in tokens of a short row.

    >>> price = RowPrice(0.001)
    >>> price(128), price(1128)
    (128.0, 2256.0)
    """

    growth: float = 0.0
    step: float = 1.0
    shape: int = SHAPE_PRICE

    def of_step(self, lengths: NDArray[np.int32]) -> NDArray[np.float64]:
        """The prices of rows with these lengths that start from stored states."""
        return self.step * lengths.astype(np.float64) + STATE_PRICE

    def __call__(self, length: int) -> float:
        """The price of a row of this length: at least half of its tokens."""
        return length * max(0.5, 1 + self.growth * (length - SHORT))

    @classmethod
    def of(
        cls, model: LanguageModel, params: Any, rows: int, multiple: int = 1, shape: int = SHAPE_PRICE
    ) -> "RowPrice":
        """Prices for a model's rows, computed at least ``rows`` at a time, given that of a ``shape``.

        Call it under the mesh on which the model's functions are traced. They are traced for rows whose
        lengths are multiples of ``multiple``.
        """
        longest = max(2 * SHORT, min(LONG, model.max_length or LONG))
        lengths = -(-SHORT // multiple) * multiple, longest // multiple * multiple
        if lengths[1] <= lengths[0]:
            return cls(shape=shape)
        short, long = (_operations(model, params, (rows, length)) for length in lengths)
        if short is None or long is None:
            return cls(shape=shape)
        growth = (long * lengths[0] / (short * lengths[1]) - 1) / (lengths[1] - lengths[0])
        if model.step is None or model.takes_reach:
            return cls(growth, shape=shape)
        stepped = _operations(model, params, (rows, lengths[0]), room=lengths[1])
        return cls(growth, 1.0 if stepped is None else stepped / short, shape)


def _operations(
    model: LanguageModel, params: Any, shape: tuple[int, int], room: int | None = None
) -> float | None:
    """The number of operations of a forward pass; ``None`` if it is zero or the model rejects the shape.

    Args:
        model: The model.
        params: Its parameters.
        shape: Rows and length.
        room: If given, count the operations of ``step`` from a state with room for this many tokens.
    """
    batch: list[Any] = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
    function: Any = partial(run_forward, model.forward)
    try:
        if room is not None:
            function = model.step
            batch.insert(0, jax.eval_shape(lambda params: model.state_for(params, shape[0], room), params))
        return operations(function, params, *batch) or None
    except Exception:  # the run itself will raise it
        return None


def shape_price(parameters: int, platform: str) -> int:
    """The price of compiling a shape for a model with this many parameters, in tokens of a short row.

    A token takes about two operations per parameter.

    >>> shape_price(10_000_000, "cpu"), shape_price(8_000_000_000, "gpu")
    (10000, 31250)
    """
    operations = COMPILE_OPERATIONS.get(platform, COMPILE_OPERATIONS_ELSEWHERE)
    return int(min(MOST_SHAPE_PRICE, max(LEAST_SHAPE_PRICE, operations / (2 * max(1, parameters)))))


def cost(plan: ScoringPlan, price: RowPrice) -> int:
    """The cost of a plan, in tokens of a short row: all its rows, filler included, and its shapes.

    >>> plan = Plan(np.array([5, 1, 3, 5, 2], np.int32), batch_size=2, padded_lengths=[8])
    >>> cost(plan, RowPrice())
    48
    """
    if isinstance(plan, ForkPlan):
        rows = plan.batch_shapes[:, 0].astype(np.int64)
        run = float((rows * price.of_step(plan.columns)).sum())
        programs = len(plan.shapes) + 1  # a trial of the plan needs that of plain rows
    else:
        shapes, batches = np.unique(plan.batch_shapes, axis=0, return_counts=True)
        each = zip(shapes.tolist(), batches.tolist(), strict=True)
        run, programs = sum(count * rows * price(length) for (rows, length), count in each), len(shapes)
    return round(run + price.shape * max(0, programs - 1))


def check_cost(plan: ScoringPlan, price: RowPrice) -> int:
    """The cost of checking a plan's layout with one of its smallest batches (:mod:`windrow.scoring.trial`).

    Forked states are checked on a few short rows.
    """
    if isinstance(plan, ForkPlan):
        return 0
    prices = [rows * price(length) for rows, length in plan.shapes.tolist()]
    return round(min(prices, default=0.0))


@dataclass(frozen=True)
class Chosen:
    """A plan, and the costs of the alternatives.

    Attributes:
        plan: The plan.
        costs: The cost of each layout's cheapest plan, in tokens of a short row; empty if the
            policy leaves no choice.
    """

    plan: ScoringPlan
    costs: dict[Layout, int]


def tells_segments_apart(functions: LanguageModel, params: Any, shape: tuple[int, int]) -> bool:
    """Whether a model uses positions or segment ids; if it uses neither, it cannot run packed rows.

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
    if policy.share == "forks":
        return ["forks"]
    if policy.pack is True:
        return ["packed"]
    allowed: list[Layout] = ["rows"]
    if policy.pack == "auto":
        allowed.append("packed")
    if policy.share == "auto" and model.takes_reach and chunk_length is None:
        allowed.append("trees")
    if policy.share == "auto" and model.step is not None and not model.takes_reach:
        allowed.append("forks")
    return allowed


def saves_little(policy: BatchPolicy, segments: Segments, row_multiple: int, shape: int) -> bool:
    """Whether no layout can save, compared with plain rows, as much as pricing the layouts costs.

    At best, each distinct prefix would be computed once, in a single shape without padding.

    Args:
        policy: A policy with a batch size.
        segments: The segments to plan.
        row_multiple: The number of rows of a batch is a multiple of this.
        shape: The price of compiling a shape, in tokens.
    """
    lengths, (_, shared) = segments.input_lengths, segments.input_order
    least = int(lengths.sum(dtype=np.int64) - shared.sum(dtype=np.int64))
    rows = policy.plan(segments, row_multiple, shape)
    return cost(rows, RowPrice(shape=shape)) - least < CHOICE * shape


def choose_plan(
    policy: BatchPolicy,
    segments: Segments,
    row_multiple: int,
    layouts: Sequence[Layout],
    price: RowPrice,
    longest: int | None = None,
    forking: Forking | None = None,
    unchecked: Collection[Layout] = (),
) -> Chosen:
    """The cheapest plan under a policy.

    Args:
        policy: A policy with a batch size.
        segments: The segments to plan.
        row_multiple: The number of rows of a batch is a multiple of this.
        layouts: The candidate layouts.
        price: The price of the model's rows.
        longest: The maximum length of packed rows, unless an input is longer.
        forking: How to plan forked states, if that is one of the layouts.
        unchecked: Layouts whose results must be compared with those of plain rows first.
    """
    if not len(segments) or layouts == ["rows"]:
        policy = replace(policy, share="equal") if policy.share == "forks" else policy
        return Chosen(policy.plan(segments, row_multiple), {})
    plans: dict[Layout, Sequence[ScoringPlan]] = {}
    if "rows" in layouts:
        plans["rows"] = [policy.plan(segments, row_multiple, price.shape)]
    if forking is not None:
        plans["forks"] = [forking.plan(policy, segments, row_multiple, price.shape)]
    if "packed" in layouts:
        plans["packed"] = policy.packed_plans(segments, row_multiple, longest)
    if "trees" in layouts:
        plans["trees"] = [policy.tree_plan(segments, row_multiple, price, price.shape)]
    costs = {
        layout: [cost(plan, price) + (check_cost(plan, price) if layout in unchecked else 0) for plan in made]
        for layout, made in plans.items()
    }
    best = min(costs, key=lambda layout: min(costs[layout]))
    cheapest = plans[best][int(np.argmin(costs[best]))]
    return Chosen(cheapest, {layout: min(found) for layout, found in costs.items()})


def check_share(share: bool | str, model: LanguageModel, chunk_length: int | None) -> None:
    """Rejects trees and forks for a model that cannot run them."""
    if share == "forks" and model.step is None:
        raise ValueError(
            "share='forks' needs a model with init_state and step; use share='equal' for this one"
        )
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
