"""Checks a model numerically: computes values that must be equal in two ways, and compares them.

The functions run on a few short random rows (see :mod:`windrow.scoring.check_inputs`), on the devices and
with the sharding of a real run. Packed rows and tree rows are checked by the same trial as in a run
(:mod:`windrow.scoring.trial`).

The cost is one compilation each of ``apply``, ``hidden`` with ``head``, packed rows and tree rows, two of
``step``, and about ten short batches.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

from windrow.model import LanguageModel, admit_model, run_forward
from windrow.scoring.check_inputs import LEAST_ROWS, Inputs, session
from windrow.scoring.check_table import Check, Gap, ModelCheck
from windrow.scoring.chunks import through_chunks
from windrow.scoring.clock import Clock
from windrow.scoring.compiler import Compiler
from windrow.scoring.feed import CAPACITY_MULTIPLE, BatchShape, Layout
from windrow.scoring.mistakes import look_like_probabilities, summary
from windrow.scoring.scorer import Scorer
from windrow.sharding import RowSharding, place
from windrow.sizing.policy import LEAST_ROW, BatchPolicy, admit_policy

LENGTH = 64
"""The length of the longest rows, in tokens, if ``max_length`` allows it."""

CHUNK_LENGTH = 7
"""An odd number, so that chunks don't end at round positions."""

WORDS = 64
"""The number of log-probabilities that are compared at each position."""

REMEDIES = {
    "logits": "return logits, without a softmax",
    "hidden and head": "make head(params, hidden(...)) return what apply returns",
    "same twice": "turn off dropout (module.eval(), deterministic=True) and other random numbers",
    "causal": "mask attention, as windrow.visible does",
    "padding": "make each row depend only on its own real tokens, not on statistics of the batch; let "
    "padding tokens see themselves, as windrow.visible does, so that no softmax is empty",
    "positions": "give position tables max_length rows, or set a lower max_length; JAX clamps indices out of "
    "range",
    "vocabulary": "give the embedding as many rows as there are logits, or cut padding off the logits; JAX "
    "clamps indices out of range",
    "packed rows": "mask by segment_ids, as windrow.visible does, and embed by positions; or set pack=False",
    "tree rows": "mask with windrow.visible(segment_ids, reach), and take positions, also for windows, from "
    "positions; or remove the parameter reach",
    "step in chunks": "start from the given state and return the new one; in a cache, write each chunk after "
    "the row's own tokens, embed by positions, mask empty slots, and make it as long as the 'length' that "
    "init_state gets",
    "state rows": "keep the state where the segment id is 0, keep a write index per row, advance it by real "
    "tokens only, and make rows the leading axis of every leaf",
}
"""What to do if a check fails."""


def check_model(
    model: LanguageModel,
    *,
    policy: BatchPolicy | None = None,
    sharding: NamedSharding | Mesh | None = None,
) -> ModelCheck:
    """Checks a model's functions on small random input.

    - ``contract``: the functions return the right shapes, dtypes and vocabulary sizes.
    - ``logits``: the functions return logits, not probabilities.
    - ``hidden and head``: together, they return the same as ``apply``.
    - ``same twice``: equal rows have equal results, in the same batch and in different ones.
    - ``causal``: a later token does not change earlier results.
    - ``padding``: padding and other rows do not change results, and contain no NaN.
    - ``positions``: tables of positions have a row for each position up to ``max_length``.
    - ``vocabulary``: the embedding distinguishes the last tokens.
    - ``packed rows``, ``tree rows``: a segment has the same results as in a row of its own.
    - ``step in chunks``: ``step``, a few tokens at a time, returns the same as ``apply``.
    - ``state rows``: so do rows of the state that differ in length, move, and pause, as in generation.

    Args:
        model: The model.
        policy: How batches will be planned, which determines the shape of the rows, and whether a run needs
            packed rows and tree rows.
        sharding: As for :func:`windrow.score`.

    Returns:
        A table. ``passed`` says whether every check that a run under the policy needs has passed; ``failed``
        lists all checks that failed.

    Raises:
        TypeError, ValueError: ``sharding`` is invalid.

    >>> from windrow.scoring import check_model
    >>> table = jax.random.normal(jax.random.key(0), (10, 10))
    >>> found = check_model(LanguageModel(table, lambda params, tokens, *_: params[tokens], max_length=16))
    >>> found.passed, found["step in chunks"].status
    (True, 'not offered')
    """
    admit_model(model)
    policy, rows = admit_policy(policy), RowSharding.over(sharding, model.params)
    try:
        checks = _Checks(Scorer(model, rows, Clock(), None, policy), policy)
        made = tuple(checks.made())
    except Exception as error:  # anything that the model's functions raise
        return ModelCheck((Check("contract", "failed", message=summary(error)),))
    return ModelCheck((Check("contract", "passed"), *made))


class _Checks:
    """The checks of one model."""

    def __init__(self, scorer: Scorer, policy: BatchPolicy) -> None:
        self._scorer, self._policy = scorer, policy
        self._model, self._sharding = scorer.functions, scorer.sharding
        self._compiler, self._allowed = Compiler(scorer.sharding.mesh), scorer.rounding
        full = min(LENGTH, scorer.model.max_length or LENGTH)
        multiple = policy.split(self._sharding.length_multiple).padding_multiple
        rows = max(LEAST_ROWS, policy.batch_size or 1)
        self._inputs = Inputs(
            -(-rows // self._sharding.groups) * self._sharding.groups,
            -(-full // multiple) * multiple,
            full,
            scorer.vocabulary,
        )

    def made(self) -> Iterator[Check]:
        """Runs the checks, one after another."""
        share, short = self._policy.share, self._inputs.columns < LEAST_ROW
        parts: list[tuple[str, bool, str, Callable[[], list[Gap]]]] = [
            ("logits", True, "", self._logits),
            ("hidden and head", True, "" if self._model.hidden else "hidden and head", self._hidden_and_head),
            ("same twice", True, "", self._same_twice),
            ("causal", True, "", self._causal),
            ("padding", True, "", self._padding),
            ("positions", True, "", self._positions),
            ("vocabulary", True, "", self._vocabulary),
            ("packed rows", self._policy.pack is True, "", self._packed_rows),
            (
                "tree rows",
                share in ("auto", "trees"),
                "" if self._model.takes_reach else "reach",
                self._tree_rows,
            ),
            ("step in chunks", True, "" if self._model.step else "step", self._step_in_chunks),
            ("state rows", True, "" if self._model.step else "step", self._state_rows),
        ]
        with self._compiler.one_run():
            self._forward  # noqa: B018  # without it, there is nothing to compare
            for name, needed, lacking, differences in parts:
                if lacking:
                    yield Check(name, "not offered", message=f"the model has no {lacking}", needed=needed)
                elif short and name.endswith("rows") and name != "state rows":
                    yield Check(
                        name, "not tried", message=f"rows are shorter than {LEAST_ROW}", needed=needed
                    )
                else:
                    yield self._check(name, needed, differences)

    def _check(self, name: str, needed: bool, differences: Callable[[], list[Gap]]) -> Check:
        try:
            found = differences()
        except Exception as error:  # anything that the model's functions raise
            return Check(name, "failed", None, f"{summary(error)}; {REMEDIES[name]}", needed)
        worst = max(found, key=lambda gap: gap.excess)
        if worst.is_sound:
            return Check(name, "passed", worst.size, needed=needed)
        return Check(name, "failed", worst.size, f"{_shown(name, worst)}; {REMEDIES[name]}", needed)

    def _logits(self) -> list[Gap]:
        real = self._forward[self._inputs.forward[2] > 0]
        suspected = look_like_probabilities(real.ravel(), self._scorer.vocabulary)
        return [Gap(float(suspected), 0.0, self._allowed)]

    def _hidden_and_head(self) -> list[Gap]:
        real = self._inputs.forward[2] > 0
        return [
            self._compared(self._forward[real], self._run("apply", self._apply, *self._inputs.forward)[real])
        ]

    def _same_twice(self) -> list[Gap]:
        again = self._run("forward", self._scored, *self._inputs.forward)
        return [
            self._compared(self._forward[1], self._forward[0]),
            self._compared(again[[0, 5]], self._forward[[0, 5]]),
        ]

    def _causal(self) -> list[Gap]:
        cut = self._inputs.cut
        return [self._compared(self._forward[3, :cut], self._forward[0, :cut])]

    def _padding(self) -> list[Gap]:
        cut, full = self._inputs.cut, self._inputs.full
        alone = self._run("forward", self._scored, *self._inputs.alone)
        unread = np.where(np.isnan(self._forward), np.nan, 0.0)
        return [
            self._compared(self._forward[2, :cut], self._forward[0, :cut]),
            self._compared(alone[0, :full], self._forward[0, :full]),
            self._compared(unread, np.zeros_like(unread)),
        ]

    def _positions(self) -> list[Gap]:
        batch = self._inputs.late(self._model.max_length)
        early, late, last = self._run("forward", self._scored, *batch)[:3, min(1, self._inputs.full - 1)]
        # A table that is too short gives late positions its last row, or NaN.
        clamped = np.array_equal(last, late, equal_nan=True) and not self._compared(last, early).is_sound
        return [Gap(float(clamped), 0.0, self._allowed)]

    def _vocabulary(self) -> list[Gap]:
        probes = self._inputs.probes
        scored = self._run("forward", self._scored, *self._inputs.batch(list(probes[:, None])))[:, 0]
        last_equal, first_equal = ((scored[at] == scored[at + 1]).all() for at in (-2, 0))
        clamped = probes[-1] != probes[-2] and last_equal and not first_equal
        return [Gap(float(clamped), 0.0, self._allowed)]

    def _packed_rows(self) -> list[Gap]:
        return [self._laid_out("packed")]

    def _tree_rows(self) -> list[Gap]:
        return [self._laid_out("trees")]

    def _step_in_chunks(self) -> list[Gap]:
        batch, full = self._inputs.chunks(), self._inputs.full
        size = min(CHUNK_LENGTH, max(1, full - 1))
        stepped = self._run("chunks", partial(_in_chunks, self._model, self._head, full, size), *batch)
        expected = self._forward[[0, 0, 5, 5, 5, 0], :full]
        real = batch[2][: len(expected)] > 0
        return [self._compared(stepped[: len(expected)][real], expected[real])]

    def _state_rows(self) -> list[Gap]:
        made = session(self._inputs)
        run = partial(_rows_that_move, self._model, self._head, self._inputs.full)
        stepped = self._run("rows", run, *made.prompt, made.places, *made.steps)
        at, rows, _ = np.nonzero(made.steps[2])
        expected = self._forward[np.array([0, 5])[made.source[rows]], made.steps[1][at, rows, 0]]
        return [self._compared(stepped[at, rows], expected)]

    @cached_property
    def _forward(self) -> NDArray[np.float32]:
        return self._run("forward", self._scored, *self._inputs.forward)

    def _laid_out(self, layout: Layout) -> Gap:
        """Runs the trial that a run makes before it puts several inputs in a row."""
        size = self._inputs.rows, self._inputs.columns
        shape = BatchShape(*size, CAPACITY_MULTIPLE, CAPACITY_MULTIPLE, layout)
        found = self._scorer.try_layout(layout, shape)
        return Gap(found.together, found.alone, found.allowed)

    def _compared(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> Gap:
        return Gap.worst(one, other, self._allowed)

    def _run(
        self, name: str, function: Callable[..., Any], *arrays: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Runs a function of the parameters and some arrays on the run's devices."""
        placed = [place(array.shape, self._placed(array), partial(_part, array)) for array in arrays]
        jitted = jax.jit(function, out_shardings=self._sharding.replicated, keep_unused=True)
        self._compiler.ask(name, jitted, self._scorer.params, *placed)
        made: NDArray[np.float32] = jax.device_get(self._compiler.get(name)(self._scorer.params, *placed))
        return made

    def _placed(self, array: NDArray[np.int32]) -> NamedSharding:
        """The sharding of a batch as in a run, or by rows if shorter; steps and places are replicated."""
        if array.shape == (self._inputs.rows, self._inputs.columns):
            return self._sharding.sharding
        return self._sharding.by_rows if array.ndim == 2 else self._sharding.replicated

    def _scored(self, params: Any, *batch: jax.Array) -> jax.Array:
        return self._head(params, self._model.run(params, *batch))

    def _apply(self, params: Any, *batch: jax.Array) -> jax.Array:
        return _log_probabilities(run_forward(self._model.apply, params, *batch))

    def _head(self, params: Any, source: jax.Array) -> jax.Array:
        """Log-probabilities, ``float32[rows, length, words]``, from the output of ``hidden`` or ``step``."""
        if self._model.head is None:
            return _log_probabilities(source)
        logits = self._model.head(params, source.reshape(-1, source.shape[-1]))
        return _log_probabilities(logits.reshape(*source.shape[:-1], -1))


Head = Callable[[Any, jax.Array], jax.Array]


def _in_chunks(
    model: LanguageModel, head: Head, room: int, size: int, params: Any, *batch: jax.Array
) -> jax.Array:
    assert model.step is not None
    state = model.state_for(params, len(batch[0]), room)
    return head(params, through_chunks(partial(model.step, params), state, batch, room, size)[1])


def _rows_that_move(
    model: LanguageModel, head: Head, room: int, params: Any, *arrays: jax.Array
) -> jax.Array:
    prompt, places, steps, step = arrays[:3], arrays[3], arrays[4:], model.step
    assert step is not None
    state, _ = step(params, model.state_for(params, len(places), room), *prompt)
    state = jax.tree.map(lambda leaf: leaf[places], state)
    _, outputs = jax.lax.scan(lambda state, column: step(params, state, *column), state, steps)
    return head(params, outputs[:, :, 0])


def _log_probabilities(logits: jax.Array) -> jax.Array:
    """Log-probabilities of some tokens of the vocabulary, ``float32[..., words]``."""
    words = np.unique(np.linspace(0, logits.shape[-1] - 1, WORDS).astype(np.int32))
    logits = logits.astype(jnp.float32)
    return logits[..., words] - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def _shown(name: str, found: Gap) -> str:
    if name == "logits":
        return "the model seems to return probabilities"
    if name == "positions":
        return "the last positions have equal logits, or NaN"
    if name == "vocabulary":
        return "the last tokens of the vocabulary have equal logits"
    if np.isnan(found.one):
        return "a log-probability is NaN"
    return f"a log-probability is {found.one:.4f} and must be {found.other:.4f}"


def _part(array: NDArray[np.int32], start: int, stop: int) -> NDArray[np.int32]:
    return array[start:stop]
