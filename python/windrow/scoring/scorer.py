"""Runs plans: computes the log-probability and greedy flag of every scored token.

Scores are computed on the devices that hold the logits: a batch's scored positions are picked, their logits
are reduced to a log-sum-exp and an arg-max in float32, and only two numbers per scored token leave the
device. Results are in segment order.

On the device, this takes one pass over the vocabulary per scored position in addition to running the model;
``CHUNK_BYTES`` bounds the memory for that pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windrow.forks import LEAST_SAVED_BY_LEVEL, Forking, ForkPlan, chunk_price
from windrow.model import LanguageModel, parameter_count
from windrow.planning import Plan
from windrow.scoring.axes import tried
from windrow.scoring.choice import (
    RowPrice,
    ScoringPlan,
    candidates,
    check_share,
    choose_plan,
    saves_little,
    shape_price,
    tells_segments_apart,
)
from windrow.scoring.clock import Clock
from windrow.scoring.compiler import Compiler
from windrow.scoring.contract import check_chunk_length, known_tokens
from windrow.scoring.feed import BatchShape, Feed, Layout, Part, layout_of
from windrow.scoring.forks import ForkFeed, fork_trial, most_slots, refused_state
from windrow.scoring.identity import params_checksum, probe
from windrow.scoring.jobs import Job, Report, run_jobs
from windrow.scoring.mistakes import PROBABILITIES, look_like_probabilities
from windrow.scoring.scores import Scores
from windrow.scoring.trial import SOUND, Difference, difference, trial
from windrow.scoring.watch import DeviceWatch
from windrow.sharding import RowSharding, check_alive, put_params
from windrow.sizing.batches import fit_plan
from windrow.sizing.memory import DeviceMemory
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import Segments
from windrow.warning import warn

IN_FLIGHT = 4
"""The default number of batches in flight."""

NOT_A_NUMBER = (
    "the model's log-probability is not a number (NaN); look for overflow in its parameters or activations"
)
"""The reason given for a request whose log-likelihood is NaN."""


class Scorer:
    """Runs plans on a model; each shape is compiled once, before its first batch.

    Args:
        model: The model; its parameters are moved to the sharding's mesh.
        sharding: How rows are split over devices.
        clock: Collects the seconds of each phase.
        chunk_length: If given, rows run through the model's ``step`` in chunks of this many tokens, carrying
            the state over.
        policy: How batches will be planned; functions are traced in a shape that it allows.

    Attributes:
        functions: The model's functions, without its parameters, to be called under the sharding's mesh.
        vocabulary: The model's vocabulary size.
        choice: How the last plan was sized, if that depended on device memory: ``memory_budget``,
            ``planned_bytes`` (the part of it that windrow uses), ``predicted_bytes`` and
            ``tokens_per_batch``; otherwise empty.
        layout: The values of ``share`` and ``pack`` that select the last plan's layout and, if windrow chose
            it, the ``costs`` of the candidates, in tokens of a short row; see
            :func:`windrow.scoring.choice.choose_plan`.
        in_flight: The number of batches in flight before the scores of the oldest are fetched.

    Raises:
        TypeError, ValueError: The model does not meet the contract of `LanguageModel`.
    """

    def __init__(
        self,
        model: LanguageModel,
        sharding: RowSharding,
        clock: Clock,
        chunk_length: int | None = None,
        policy: BatchPolicy | None = None,
    ) -> None:
        check_chunk_length(model, chunk_length)
        self.model = model
        self.chunk_length = chunk_length
        self.sharding = sharding
        self.clock = clock
        self.params = put_params(model.params, sharding)
        self._policy = (policy or BatchPolicy()).split(sharding.length_multiple)
        self.functions, self.vocabulary = tried(model, self.params, sharding, self._policy)
        self.choice: dict[str, int] = {}
        self.layout: dict[str, Any] = {}
        self._price: RowPrice | None = None
        self._trials: dict[Layout, Difference] = {}
        self._compiler = Compiler(sharding.mesh)
        self._for_one_batch = Compiler(sharding.mesh, level=0)  # the plain batch of a trial runs once
        self.in_flight = IN_FLIGHT

    def describe(self) -> dict[str, int | str]:
        """The number of parameters, and their dtypes."""
        leaves = jax.tree.leaves(self.params)
        types = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        return {"model_num_parameters": parameter_count(self.params), "model_dtype": types}

    @cached_property
    def identity(self) -> dict[str, str | list[float]]:
        """Identifies this model. Every host must access it.

        ``parameters`` is a hash of all parameters; ``model function`` holds the log-probabilities of a few
        fixed tokens. The first takes one pass over the parameters, the second one short batch, and each takes
        one compilation.
        """
        segments, policy = probe(self.vocabulary, self.model.max_length), self._policy
        fixed = BatchPolicy(policy.batch_size, padding_multiple=policy.padding_multiple)
        logprobs = self.run(fixed.plan(segments, self.sharding.groups), segments).token_logprobs
        return {
            "parameters": params_checksum(self.params, self.sharding),
            "model function": logprobs.tolist(),
        }

    def plan(
        self, policy: BatchPolicy, segments: Segments, memory: DeviceMemory | None = None
    ) -> ScoringPlan:
        """The plan for these segments under the policy.

        If the policy sizes itself, the plan's programs are compiled here to find out how much memory they
        need; the run reuses them. Before the first plan whose rows hold several inputs, one batch checks that
        the model scores such rows as it scores each input alone.

        Args:
            policy: How segments are batched.
            segments: The segments to score.
            memory: The available memory; by default, the policy's budget.

        Raises:
            ValueError: Not even one row of the longest segment fits on each device, the parameters have
                been deleted, or the policy requires packing or trees and the model cannot run them.
        """
        check_alive(self.params)
        policy.check_groups(self.sharding.groups)
        policy = policy.split(self.sharding.length_multiple)
        check_share(policy.share, self.model, self.chunk_length)
        layouts = candidates(policy, self.model, self.chunk_length)
        if "forks" in layouts and (reason := self._refused_state(policy, segments)):
            if layouts == ["forks"]:
                raise ValueError(f"share='forks' does not work with this model: {reason}")
            layouts.remove("forks")
        if len(layouts) == 1:
            plan = self._planned(policy, segments, layouts, memory)
            if not self._is_sound(plan, segments):
                setting = "pack=True" if layouts == ["packed"] else f"share={policy.share!r}"
                raise ValueError(f"{setting} does not work with this model: {self._trials[layout_of(plan)]}")
            return plan
        if "packed" in layouts and not self._tells_segments_apart:
            layouts.remove("packed")
        while True:
            layouts = [layout for layout in layouts if self._trials.get(layout, SOUND).is_sound]
            plan = self._planned(policy, segments, layouts, memory)
            if self._is_sound(plan, segments):
                return plan

    def _planned(
        self,
        policy: BatchPolicy,
        segments: Segments,
        layouts: Sequence[Layout],
        memory: DeviceMemory | None,
    ) -> ScoringPlan:
        self.choice = {}
        with self.clock.phase("plan"):
            if not policy.sizes_itself or not len(segments):
                forking = self._forking(policy, segments, layouts)
                policy = policy.sized(1) if policy.sizes_itself else policy
                return self._choose(segments, layouts, forking, policy)
            memory = memory or DeviceMemory(self.sharding, policy.budget_bytes)
            plan_with = partial(
                self._choose, segments, layouts, self._forking(policy, segments, layouts, memory)
            )
            feed_with = partial(self._feed, segments)
            fitted = fit_plan(policy, segments, memory, partial(self._needs, memory), plan_with, feed_with)
        self.choice = fitted.choice
        plan: ScoringPlan = fitted.plan
        return plan

    def _forking(
        self,
        policy: BatchPolicy,
        segments: Segments,
        layouts: Sequence[Layout],
        memory: DeviceMemory | None = None,
    ) -> Forking | None:
        """How to plan forked states, if that is one of the layouts."""
        if "forks" not in layouts or not len(segments):
            return None
        with jax.set_mesh(self.sharding.mesh):
            slots = most_slots(self.functions, self.params, self.sharding, policy.longest(segments), memory)
        least = 1 if policy.share == "forks" else LEAST_SAVED_BY_LEVEL
        price = chunk_price(self.sharding.platform)
        return Forking(self.model.max_length, slots, least, self.chunk_length, price)

    def _refused_state(self, policy: BatchPolicy, segments: Segments) -> str | None:
        """Why a state for the longest segment cannot hold its tokens, or ``None``."""
        longest = self.functions.room(policy.longest(segments))
        shape = self.sharding.groups, min(longest, self.chunk_length or longest)
        with jax.set_mesh(self.sharding.mesh):
            return refused_state(self.functions, self.params, shape, longest)

    def _feed(self, segments: Segments, plan: ScoringPlan) -> Feed | ForkFeed:
        if isinstance(plan, ForkPlan):
            return ForkFeed(plan, segments, self.sharding, self.functions, self.params)
        return Feed(plan, segments, self.sharding)

    def _choose(
        self, segments: Segments, layouts: Sequence[Layout], forking: Forking | None, policy: BatchPolicy
    ) -> ScoringPlan:
        layouts = self._worth_pricing(layouts, segments, policy)
        price = self._row_price(policy) if len(segments) and layouts != ["rows"] else RowPrice()
        chosen = choose_plan(
            *(policy, segments, self.sharding.groups, layouts, price, self.model.max_length, forking),
            unchecked=[layout for layout in layouts if layout not in self._trials],
        )
        layout = layout_of(chosen.plan)
        share = layout if layout in ("trees", "forks") else "equal" if policy.share else False
        self.layout = {"share": share, "pack": layout == "packed"}
        if len(chosen.costs) > 1:
            self.layout["costs"] = chosen.costs
        return chosen.plan

    def _worth_pricing(
        self, layouts: Sequence[Layout], segments: Segments, policy: BatchPolicy
    ) -> Sequence[Layout]:
        """The layouts to consider: plain rows only, if pricing the others costs more than they can save."""
        if self._price is not None or len(layouts) == 1 or not len(segments):
            return layouts
        little = saves_little(policy, segments, self.sharding.groups, self._shape_price)
        return ["rows"] if little else layouts

    @cached_property
    def _shape_price(self) -> int:
        """The price of compiling a shape, in tokens."""
        return shape_price(parameter_count(self.params), self.sharding.platform)

    def _row_price(self, policy: BatchPolicy) -> RowPrice:
        """The prices of rows by length; the price of rows that run in chunks is their number of tokens."""
        if self._price is None:
            if self.chunk_length is not None:
                self._price = RowPrice(shape=self._shape_price)
                return self._price
            rows, _ = policy.sample_shape(self.sharding.groups, self.model.max_length)
            with jax.set_mesh(self.sharding.mesh):
                multiple = policy.padding_multiple
                self._price = RowPrice.of(self.functions, self.params, rows, multiple, self._shape_price)
        return self._price

    @cached_property
    def _tells_segments_apart(self) -> bool:
        """Whether packed rows are worth trying."""
        if self.chunk_length is not None:
            return True
        shape = self._policy.sample_shape(self.sharding.groups, self.model.max_length)
        with jax.set_mesh(self.sharding.mesh):
            return tells_segments_apart(self.functions, self.params, shape)

    def _is_sound(self, plan: ScoringPlan, segments: Segments) -> bool:
        """Whether the model scores a plan's layout as it scores each input alone; checked once."""
        layout = layout_of(plan)
        if layout == "rows" or plan.batch_shapes[:, 1].max(initial=0) < 2:
            return True
        if isinstance(plan, ForkPlan):
            if plan.is_stem.any() and layout not in self._trials:
                self._trials[layout] = self._try_forks(plan, segments)
            return self._trials.get(layout, SOUND).is_sound
        if layout not in self._trials:
            shapes = Feed(plan, segments, self.sharding).shapes
            shape = min(shapes, key=lambda shape: shape.rows * shape.length)
            self._trials[layout] = self.try_layout(layout, shape)
        return self._trials[layout].is_sound

    def try_layout(self, layout: Layout, shape: BatchShape) -> Difference:
        """The largest difference between inputs that share rows and the same inputs in their own rows.

        Args:
            layout: ``"packed"`` or ``"trees"``.
            shape: The shape of a batch of this layout; for trees, at least 16 tokens long.
        """
        plan, segments = trial(layout, self.vocabulary, (shape.rows, shape.length), self.sharding.groups)
        scores = self._run(segments, Feed(plan, segments, self.sharding, like=shape))
        return difference(layout, scores.token_logprobs, self.rounding)

    def _try_forks(self, plan: ForkPlan, of: Segments) -> Difference:
        """The largest difference between inputs that start from stored states and the same inputs alone."""
        forked, segments = fork_trial(plan, self.vocabulary)
        model = self.sharding, self.functions, self.params
        feed = ForkFeed(forked, segments, *model, like=ForkFeed(plan, of, *model))
        rows, _ = self._policy.sample_shape(self.sharding.groups, self.model.max_length)
        fixed = BatchPolicy(rows, max_shapes=1, padding_multiple=self._policy.padding_multiple, share=False)
        single = fixed.plan(segments, self.sharding.groups)
        single_feed = Feed(single, segments, self.sharding)
        with self.one_run(), self._for_one_batch.one_run():
            self._ask(self._compiler, feed, feed.shapes)
            self._ask(self._for_one_batch, single_feed, single_feed.shapes)  # compiles at the same time
            together = self._run(segments, feed).token_logprobs
            alone = self._run(segments, single_feed, compiler=self._for_one_batch).token_logprobs
        return difference("forks", np.concatenate([together, alone]), self.rounding)

    @property
    def rounding(self) -> float:
        """The relative difference that a different order of operations may cause in log-probabilities."""
        types = {leaf.dtype for leaf in jax.tree.leaves(self.params)}
        narrow = any(jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 for dtype in types)
        return 3e-2 if narrow else 1e-3

    def _needs(self, memory: DeviceMemory, feed: Feed | ForkFeed, shapes: Sequence[BatchShape]) -> list[int]:
        """How much memory the programs for these shapes need."""
        programs = self._compiled(feed, shapes)
        return [
            memory.need(program, feed.structs(shape)) * feed.at_once
            for program, shape in zip(programs, shapes, strict=True)
        ]

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """A block in which each shape is traced only once, whether it is needed to plan or to run."""
        with self._compiler.one_run():
            yield

    @contextmanager
    def same_shapes(self, shapes: Sequence[BatchShape]) -> Iterator[None]:
        """Compiles these shapes; runs inside the block that use them don't trace or compile anything."""
        nothing = probe(self.vocabulary, self.model.max_length).only(np.zeros(0, np.int64))
        feed = Feed(Plan(nothing.input_lengths, batch_size=1), nothing, self.sharding, like=shapes[0])
        with self._compiler.one_run():
            self._compiled(feed, shapes)
            yield

    def _compiled(self, feed: Feed | ForkFeed, shapes: Sequence[BatchShape]) -> list[Any]:
        self._ask(self._compiler, feed, shapes)
        with self.clock.phase("compile"), self.clock.scoring.compiling_ahead():
            return [self._compiler.get(shape) for shape in shapes]

    def run(self, plan: ScoringPlan, segments: Segments, known: Report | None = None) -> Scores:
        """Scores every segment of the plan.

        Args:
            plan: Made from the segments' input lengths (all of a segment's tokens but the last).
            segments: The segments that the plan was made from.
            known: Called after each batch is fetched, with its segments and the scores so far.

        Raises:
            BadRequestsError: A segment has a token outside the model's vocabulary.
            ValueError: The parameters have been deleted.
        """
        check_alive(self.params)
        known_tokens(segments, self.vocabulary)
        scores = self._run(segments, self._feed(segments, plan), known)
        if look_like_probabilities(scores.token_logprobs, self.vocabulary):
            warn(PROBABILITIES)
        return scores

    def run_parts(self, parts: Sequence[Part], segments: Segments) -> Scores:
        """Scores segments that several plans divide among themselves, all plans in one run.

        Args:
            parts: The plans. Together they have every segment once.
            segments: All segments; their tokens are in the model's vocabulary.

        Raises:
            ValueError: The parameters have been deleted.
        """
        check_alive(self.params)
        scores = Scores.unknown(segments)
        feeds = (Feed(part.plan, part.segments, self.sharding, part.shape) for part in parts)
        self._run_all([Job(feed, scores, part.which) for part, feed in zip(parts, feeds, strict=True)])
        return scores

    def _run(
        self,
        segments: Segments,
        feed: Feed | ForkFeed,
        known: Report | None = None,
        compiler: Compiler | None = None,
    ) -> Scores:
        scores = Scores.unknown(segments)
        self._run_all([Job(feed, scores)], known, compiler)
        return scores

    def _run_all(
        self, jobs: Sequence[Job], known: Report | None = None, compiler: Compiler | None = None
    ) -> None:
        compiler = self._compiler if compiler is None else compiler
        with compiler.one_run(), DeviceWatch(self.clock.scoring) as watch:
            for job in jobs:
                self._ask(compiler, job.feed, job.feed.shapes)
            run_jobs(jobs, compiler, self.params, self.clock, watch, self.in_flight, known)

    def _ask(self, compiler: Compiler, feed: Feed | ForkFeed, shapes: Sequence[BatchShape]) -> None:
        """Requests the programs for these shapes, in the order in which they are needed."""
        feed.ask(compiler, self.params)
        for shape in dict.fromkeys(shapes):
            if not compiler.has(shape):
                program = feed.program(shape, self.functions, self.chunk_length)
                compiler.ask(shape, program, self.params, *feed.structs(shape))
