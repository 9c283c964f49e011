"""From a plan to scores: log-probabilities and greedy flags of every scored token.

Scores are made where logits are: a batch's scored positions are picked, their
logits reduced to a log-sum-exp and an arg-max in float32, and only two numbers
a scored token leave the device. Results return in the order of the segments.

The cost on the device is the model's own plus, for each scored position, one
pass over the vocabulary; memory for that is bounded by ``CHUNK_BYTES``.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Lock, local
from time import perf_counter
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from windrow.model import LanguageModel
from windrow.planning import Plan
from windrow.policy import BatchPolicy
from windrow.scoring.axes import tried
from windrow.scoring.choice import RowPrice, check_share, choose_plan
from windrow.scoring.compiler import Compiler
from windrow.scoring.contract import check_chunk_length, known_tokens
from windrow.scoring.feed import BatchShape, Feed
from windrow.scoring.gathering import Fetched, Gatherer
from windrow.scoring.identity import params_checksum, probe
from windrow.scoring.program import score_batch
from windrow.scoring.sizing import fit_plan
from windrow.scoring.trial import difference, trial
from windrow.scoring.watch import DeviceSeconds, DeviceWatch
from windrow.sharding import DeviceMemory, RowSharding, check_alive, put_params, telling_of_memory
from windrow.tokens import Segments

IN_FLIGHT = 4
"""How many batches may be dispatched before the oldest one's scores are fetched."""

NOT_A_NUMBER = (
    "the model's log-probability is not a number (NaN); look for overflow in its parameters or activations"
)
"""What is wrong with a request that the model gives NaN for."""

T = TypeVar("T", bound=np.generic)

Report = Callable[[NDArray[np.int64], "Scores"], None]


@dataclass(frozen=True)
class Scores:
    """What the model says of each segment's scored tokens.

    Attributes:
        token_logprobs: ``float32[m]``, the log-probability of each scored token,
            in nats, segment after segment; NaN where the model's logits are.
        token_greedy: ``bool[m]``, whether the token has the highest logit of all.
        offsets: ``int64[n + 1]``, where each segment's scored tokens begin.
    """

    token_logprobs: NDArray[np.float32]
    token_greedy: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    @classmethod
    def unknown(cls, segments: Segments) -> "Scores":
        """Room for the scores of these segments, NaN until they are known."""
        counts = np.diff(segments.offsets) - segments.score_starts
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.full(offsets[-1], np.nan, np.float32), np.zeros(offsets[-1], np.bool_), offsets)

    def positions(self, segments: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the scored tokens of the given segments lie, segment after segment."""
        begins, counts = self.offsets[segments], self.offsets[segments + 1] - self.offsets[segments]
        before = np.cumsum(counts) - counts
        return np.repeat(begins - before, counts) + np.arange(counts.sum())

    def only(self, segments: NDArray[np.int64]) -> "Scores":
        """The scores of some segments."""
        positions = self.positions(segments)
        counts = self.offsets[segments + 1] - self.offsets[segments]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Scores(self.token_logprobs[positions], self.token_greedy[positions], offsets)

    def sums(self) -> NDArray[np.float64]:
        """``float64[n]``: each segment's log-likelihood, 0 where nothing is scored."""
        return self._by_segment(np.add, self.token_logprobs.astype(np.float64), 0.0)

    def greedy(self) -> NDArray[np.bool_]:
        """``bool[n]``: whether greedy decoding would give the whole scored stretch."""
        return self._by_segment(np.logical_and, self.token_greedy, True)

    def _by_segment(self, reduce: np.ufunc, values: NDArray[T], empty: float | bool) -> NDArray[T]:
        scored = self.offsets[1:] > self.offsets[:-1]
        reduced = np.full(len(scored), empty, values.dtype)
        if scored.any():
            reduced[scored] = reduce.reduceat(values, self.offsets[:-1][scored])
        return reduced


class Clock:
    """Seconds, added up over runs, which may be in several threads.

    Attributes:
        seconds: By phase, those of all threads that run something; a phase within another counts by itself.
        scoring: What the devices did while scores were made.
        generation: What they did while texts were generated.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.scoring, self.generation = DeviceSeconds(), DeviceSeconds()
        self._lock, self._thread = Lock(), _Inner()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to the phase's seconds."""
        thread = self._thread
        start, outer, thread.seconds = perf_counter(), thread.seconds, 0.0
        try:
            yield
        finally:
            whole = perf_counter() - start
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + whole - thread.seconds
            thread.seconds = outer + whole


class _Inner(local):
    """The seconds of the phases within the one that a thread is in."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Scorer:
    """Runs plans on a model: compiles each shape once, ahead of its first batch.

    Args:
        model: The model; its parameters are put on the sharding's mesh.
        sharding: How rows are split over devices.
        clock: Where the seconds of each phase are added up.
        chunk_length: Where given, rows run through the model's ``step`` in chunks of
            this many tokens, the state carried from one to the next.
        policy: How batches will be planned: functions are tried in a shape that it allows.

    Attributes:
        vocabulary: How many tokens the model's logits are for.
        choice: What decided the last plan's size where that was left to the memory of
            the devices: ``memory_budget``, ``planned_bytes`` of it, ``predicted_bytes``
            and ``tokens_per_batch``; empty elsewhere.
        layout: How the last plan shares inputs, ``share``, and, if it was chosen, the ``costs`` of
            what it was chosen from; see :func:`windrow.scoring.choice.choose_plan`.

    Raises:
        ValueError: The model does not keep the contract of `LanguageModel`.
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
        self._functions, self.vocabulary = tried(model, self.params, sharding, self._policy)
        self.choice: dict[str, int] = {}
        self.layout: dict[str, Any] = {}
        self._price: RowPrice | None = None
        self._trees_sound: bool | None = None
        self._compiler = Compiler(sharding.mesh)

    def describe(self) -> dict[str, int | str]:
        """How many parameters the model has, and of which types."""
        leaves = jax.tree.leaves(self.params)
        types = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        return {"model_num_parameters": sum(leaf.size for leaf in leaves), "model_dtype": types}

    @cached_property
    def identity(self) -> dict[str, str | list[float]]:
        """What tells this model from others. Every host must ask for it.

        ``parameters`` is a hash of all parameters; ``model function`` are the
        log-probabilities of a few fixed tokens. The first takes a pass over the
        parameters' memory, the second one short batch, and each a compilation.
        """
        segments, policy = probe(self.vocabulary, self.model.max_length), self._policy
        fixed = BatchPolicy(policy.batch_size, padding_multiple=policy.padding_multiple)
        logprobs = self.run(fixed.plan(segments, self.sharding.groups), segments).token_logprobs
        return {
            "parameters": params_checksum(self.params, self.sharding),
            "model function": logprobs.tolist(),
        }

    def plan(self, policy: BatchPolicy, segments: Segments, memory: DeviceMemory | None = None) -> Plan:
        """The plan for these segments under the policy.

        Where the policy sizes itself, the plan's programs are compiled here, to see
        what memory they need, and run as they are. Before rows hold trees for the first
        time, one small batch shows whether the model honours ``reach``; nothing else runs.

        Args:
            policy: How segments are batched.
            segments: What is to be scored.
            memory: What there is; what the policy says of it by default.

        Raises:
            ValueError: Not even one row of the longest segment fits on each device, the parameters have
                been deleted, or trees are asked for and the model cannot run them.
        """
        check_alive(self.params)
        policy = policy.split(self.sharding.length_multiple)
        check_share(policy.share, self.model, self.chunk_length)
        if self._trees_sound is False:
            policy = replace(policy, share="equal")
        plan = self._planned(policy, segments, memory)
        if plan.trees and not self._honours_reach(plan, segments, policy.share):
            plan = self._planned(replace(policy, share="equal"), segments, memory)
        return plan

    def _planned(self, policy: BatchPolicy, segments: Segments, memory: DeviceMemory | None) -> Plan:
        self.choice = {}
        with self.clock.phase("plan"):
            plan_with = partial(self._choose, segments, self._row_price(policy))
            if not policy.sizes_itself or not len(segments):
                return plan_with(policy.sized(1) if policy.sizes_itself else policy)
            memory = memory or DeviceMemory(self.sharding, policy.budget_bytes)
            fitted = fit_plan(policy, segments, memory, partial(self._needs, memory), plan_with)
        self.choice = fitted.choice
        return fitted.plan

    def _choose(self, segments: Segments, price: RowPrice | None, policy: BatchPolicy) -> Plan:
        chosen = choose_plan(policy, segments, self.sharding.groups, price)
        share = "trees" if chosen.plan.trees else "equal" if policy.share else False
        self.layout = {"share": share, **({"costs": chosen.costs} if chosen.costs else {})}
        return chosen.plan

    def _row_price(self, policy: BatchPolicy) -> RowPrice | None:
        """What rows cost, if they may hold trees."""
        if policy.share not in ("auto", "trees") or policy.pack:
            return None
        if self.chunk_length is not None or not self.model.takes_reach:
            return None
        if self._price is None:
            rows, _ = policy.sample_shape(self.sharding.groups, self.model.max_length)
            with jax.set_mesh(self.sharding.mesh):
                self._price = RowPrice.of(self._functions, self.params, rows)
        return self._price

    def _honours_reach(self, plan: Plan, segments: Segments, share: bool | str) -> bool:
        """Whether the model gives the same for a tree as for its inputs end to end; tried once.

        Raises:
            ValueError: It does not, and trees were asked for.
        """
        if self._trees_sound is None:
            feed = Feed(plan, segments, self.sharding)
            shape = min(feed.shapes, key=lambda shape: shape.rows * shape.length)
            tried_plan, tried_segments = trial(
                self.vocabulary, (shape.rows, shape.length), self.sharding.groups
            )
            scores = self._run(
                tried_plan, tried_segments, Feed(tried_plan, tried_segments, self.sharding, like=shape)
            )
            found = difference(scores.token_logprobs, _rounding(self.params))
            self._trees_sound = found.is_sound
            if not found.is_sound and share == "trees":
                raise ValueError(f"share='trees' is not possible with this model: {found}")
        return self._trees_sound

    def _needs(self, memory: DeviceMemory, feed: Feed, shapes: Sequence[BatchShape]) -> list[int]:
        """What memory the programs of some shapes need."""
        self._ask(feed, shapes)
        with self.clock.phase("compile"), self.clock.scoring.compiling_ahead():
            programs = [self._compiler.get(shape) for shape in shapes]
        return [
            memory.need(program, feed.structs(shape)) for program, shape in zip(programs, shapes, strict=True)
        ]

    def run(self, plan: Plan, segments: Segments, known: Report | None = None) -> Scores:
        """Scores every segment of the plan.

        Args:
            plan: Made from the segments' input lengths (each one's tokens but the last).
            segments: What the plan was made from.
            known: Called with segments and the scores so far each time a batch's
                scores become known.

        Raises:
            BadRequestsError: A segment has a token that the model has no logits for.
            ValueError: The parameters have been deleted.
        """
        check_alive(self.params)
        known_tokens(segments, self.vocabulary)
        return self._run(plan, segments, Feed(plan, segments, self.sharding), known)

    def _run(self, plan: Plan, segments: Segments, feed: Feed, known: Report | None = None) -> Scores:
        scores, gatherer = Scores.unknown(segments), Gatherer(self.sharding)
        pending: deque[tuple[int, tuple[jax.Array, jax.Array]]] = deque()

        def fetch() -> None:
            batch, outputs = pending.popleft()
            with self.clock.phase("device"), telling_of_memory(str(feed.shapes[batch])):
                whole = list(gatherer.add(batch, outputs))
            self._spread(plan, scores, whole, known)

        with self._compiler.one_run(), DeviceWatch(self.clock.scoring) as watch:
            self._ask(feed, feed.shapes)
            for batch, shape in enumerate(feed.shapes):
                with telling_of_memory(str(shape)):
                    with self.clock.phase("compile"), watch.compiling():
                        program = self._compiler.get(shape)
                    with self.clock.phase("host"):
                        arrays = feed.arrays(batch)
                    watch.handing_over()
                    pending.append((batch, program(self.params, *arrays)))
                watch.watch(pending[-1][1])
                with self.clock.phase("compile"):
                    self._compiler.advance()
                while len(pending) > (0 if gatherer.due(batch) else IN_FLIGHT):
                    fetch()
            while pending:
                fetch()
        self._spread(plan, scores, gatherer.flush(), known)
        return scores

    def _ask(self, feed: Feed, shapes: Sequence[BatchShape]) -> None:
        """Asks for the programs of some shapes, in the order in which they are needed."""
        for shape in dict.fromkeys(shapes):
            # Each time anew: JAX knows a traced function again, but not what the caller has set meanwhile.
            program = jax.jit(
                partial(score_batch, self._functions, self.chunk_length),
                out_shardings=self.sharding.by_rows,
                keep_unused=True,
            )
            self._compiler.ask(shape, program, self.params, *feed.structs(shape))

    def _spread(self, plan: Plan, scores: Scores, batches: Iterable[Fetched], known: Report | None) -> None:
        """Puts fetched batches' outputs where their segments' scores belong."""
        for batch, logprobs, greedy in batches:
            segments = plan.batch_segments(batch)
            groups = len(logprobs)
            group = plan.rows[segments] * groups // plan.batch_shapes[batch, 0]
            counts = scores.offsets[segments + 1] - scores.offsets[segments]
            filled = np.arange(logprobs.shape[1]) < np.bincount(group, counts, groups)[:, None]
            positions = scores.positions(segments)
            scores.token_logprobs[positions] = logprobs[filled]
            scores.token_greedy[positions] = greedy[filled]
            if known is not None:
                known(segments, scores)


def _rounding(params: Any) -> float:
    """By which part log-probabilities may differ that are computed in another order."""
    types = {leaf.dtype for leaf in jax.tree.leaves(params)}
    narrow = any(jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 for dtype in types)
    return 3e-2 if narrow else 1e-3
