"""Continuous batching: when a row is finished, the next request takes its slot.

While the devices generate a few tokens in every slot, the host checks the previous
ones for stop strings and prefills the next requests. Each program has a fixed
shape, so only a few are compiled. A request's text depends only on the request, the
model and the seed, not on slots, order or the other requests.

A text that ends early keeps its slot for at most two more dispatches of ``STEPS``
tokens, since the host reads results late. Length limits are known in advance and cost
no such delay.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from windrow.generation.answer import ThinkEnd, read_answer
from windrow.generation.batching import STEPS, Batcher, Batching
from windrow.generation.defaults import GenerationDefaults
from windrow.generation.endings import Growing, Reason, StopReader
from windrow.generation.logits import RuleTable, RunRules
from windrow.generation.prefixes import Prefixes
from windrow.generation.program import Recomputing
from windrow.generation.programs import Program, Programs
from windrow.generation.rows import Rows
from windrow.generation.schedule import FREE, Entry, Schedule
from windrow.generation.settings import Settings
from windrow.model import LanguageModel, parameter_count
from windrow.scoring import Clock, DeviceWatch
from windrow.scoring.axes import tried
from windrow.scoring.choice import shape_price
from windrow.scoring.contract import check_chunk_length, known_tokens
from windrow.scoring.forks import most_slots
from windrow.sharding import RowSharding, check_alive, is_first_host, place, put_params
from windrow.sizing.memory import DeviceMemory, explained_memory_errors
from windrow.sizing.policy import BatchPolicy
from windrow.sizing.slots import DEFAULT_SLOTS, fit_slots
from windrow.tokens import Segments, Tokenizer
from windrow.warning import warn

SHARING = 0.1
"""The extra compilation that sharing prefixes costs, as a fraction of compiling one program."""


@dataclass(frozen=True)
class Generated:
    """One request's text.

    Attributes:
        text: The text, decoded without special tokens and truncated at stop strings.
        tokens: All generated tokens, including an end token and the tokens of a stop string.
        reason: Why it ended: ``"stop"`` (a stop string), ``"end"`` (an end token) or ``"length"``;
            ``"skipped"`` if no text was generated.
    """

    text: str
    tokens: tuple[int, ...]
    reason: Reason


class Generator:
    """Generates texts with a model; each shape is compiled once, ahead of its first use.

    Args:
        model: The model; without ``init_state`` and ``step``, each new token
            recomputes the whole text.
        tokenizer: Decodes the texts.
        sharding: How rows are split over devices.
        clock: Collects the seconds of each phase.
        defaults: The model's generation defaults.
        policy: ``batch_size`` is the number of slots, ``tokens_per_batch`` the maximum number of
            tokens in all slots together; ``"auto"``: as many slots as fit in memory.
        seed: The seed for sampling.
        chunk_length: The prefill chunk length in tokens; by default, chosen by cost.
        memory: The available memory, for ``"auto"``; by default, the policy's budget.
        vocabulary: The model's vocabulary size, if known.
        think_end: The end-of-thinking marker; text up to its last occurrence is removed.

    Attributes:
        vocabulary: The model's vocabulary size.
        choice: If the number of slots was chosen to fit in memory: ``memory_budget``,
            ``planned_bytes`` (the part of the budget that programs may use), ``predicted_bytes``
            (what they need) and ``slots`` of the last run; otherwise empty.

    Raises:
        TypeError, ValueError: The model does not meet the contract of `LanguageModel`.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        sharding: RowSharding,
        clock: Clock,
        defaults: GenerationDefaults,
        *,
        policy: BatchPolicy | None = None,
        seed: int = 0,
        chunk_length: int | None = None,
        memory: DeviceMemory | None = None,
        vocabulary: int | None = None,
        think_end: ThinkEnd = None,
    ) -> None:
        check_chunk_length(model, chunk_length)
        self.think_end = think_end
        self.model, self.tokenizer, self.sharding, self.clock = model, tokenizer, sharding, clock
        self.defaults, self.policy = defaults, policy or BatchPolicy()
        self.seed, self.chunk_length = seed, chunk_length
        self.params = params = put_params(model.params, sharding)
        self.policy = self.policy.split(sharding.length_multiple)
        self._functions = replace(model, params=None)
        if vocabulary is None or sharding.explicit:
            self._functions, vocabulary = tried(model, params, sharding, self.policy)
        self.vocabulary, self._programs = vocabulary, Programs(params, sharding)
        self._stops = StopReader(tokenizer)
        self._totals = Counter[str]()
        self._slots = 0
        self.memory = memory or DeviceMemory(sharding, self.policy.budget_bytes)
        self.choice: dict[str, int] = {}

    def report(self) -> dict[str, Any]:
        """A summary of the runs so far.

        Returns:
            ``requests``, ``prompt_tokens``, ``read_tokens`` (prefilled, padding included),
            ``generated_tokens``, ``programs`` (one compilation each), ``slots`` of the last run,
            ``slot_use`` (the fraction of the tokens decoded in slots that became part of a text),
            and the number of requests that ended for each reason: ``stop``, ``end``, ``length``.
        """
        names = ("requests", "prompt_tokens", "read_tokens", "generated_tokens", "stop", "end", "length")
        use = self._totals["generated_tokens"] / max(1, self._totals["slot_tokens"])
        counts = {name: self._totals[name] for name in names}
        return {**counts, "programs": len(self._programs), "slots": self._slots, "slot_use": use}

    def run(
        self,
        prompts: Segments,
        settings: Sequence[Settings],
        finished: Callable[[int, Generated], None],
        keys: NDArray[np.int32] | None = None,
    ) -> list[int]:
        """Generates a text for every prompt.

        Args:
            prompts: ``n`` prompts, as from :func:`windrow.tokens.generation_prompts`.
            settings: ``n`` settings, one per prompt.
            finished: Called with a prompt's index and result as soon as its text ends.
            keys: ``int32[n, 2]``, the two words of each prompt's random key; by default, those of
                :func:`random_keys`.

        Returns:
            The prompts whose texts are undefined, because the model's logits became NaN. They do not finish.

        Raises:
            ValueError: A parameter has been deleted, a prompt has a token outside the vocabulary, or not even
                one slot per device fits in memory.
        """
        if not len(prompts):
            return []
        check_alive(self.params)
        known_tokens(prompts, self.vocabulary)
        self._warn_about_end_tokens()
        rules = RunRules(settings, self.defaults.end_tokens)
        with self._programs.one_run():
            with self.clock.phase("plan"):
                batching = self._sized_batching(prompts, settings, rules)
            self._slots = batching.begin.slots
            self._totals["requests"] += len(prompts)
            self._totals["prompt_tokens"] += len(prompts.tokens)
            for program in batching.programs:
                self._programs.ask(program)
            with DeviceWatch(self.clock.generation) as watch:
                run = _Run(self, batching, prompts, settings, rules, finished, watch, keys)
                run.loop()
        return sorted(run.failed)

    def _warn_about_end_tokens(self) -> None:
        """Warns if the model cannot generate any of the end tokens."""
        ends = self.defaults.end_tokens
        if ends and min(ends) >= self.vocabulary and is_first_host():
            warn(
                f"no end token ({', '.join(map(str, ends))}) is in the model's vocabulary of "
                f"{self.vocabulary} tokens, so texts end only at stop strings or at their maximum length"
            )

    def _sized_batching(self, prompts: Segments, settings: Sequence[Settings], rules: RunRules) -> Batching:
        """The batching with the policy's number of slots, or as many as fit in device memory."""
        lengths = np.diff(prompts.offsets).astype(np.int32)
        longest = int((lengths + [one.max_new_tokens for one in settings]).max())
        groups, policy = self.sharding.groups, self.policy
        ends, prefixes = self.defaults.end_tokens, self._shared_prefixes(prompts, rules)
        batcher = Batcher(
            *(self._functions, policy, groups, ends, self.chunk_length, self._shape_price),
            platform=self.memory.platform,
            rules=rules.shapes,
            prefixes=prefixes,
        )
        if prefixes is not None:
            with jax.set_mesh(self.sharding.mesh):
                memory = self.memory if policy.sizes_itself else None
                most = most_slots(self._functions, self.params, self.sharding, longest, memory)
            batcher = replace(batcher, most_prefixes=most)
        if policy.sizes_itself:
            made, self.choice = fit_slots(
                self.memory,
                -(-len(prompts) // groups),
                lambda slots: batcher.batching(lengths, settings, slots),
                self._need,
            )
            return made
        slots = DEFAULT_SLOTS if policy.batch_size is None else policy.batch_size
        if isinstance(policy.tokens_per_batch, int):
            slots = policy.tokens_per_batch // longest // groups * groups
        return batcher.batching(lengths, settings, -(-max(1, min(slots, len(prompts))) // groups) * groups)

    @property
    def _shape_price(self) -> int:
        """What compiling a program costs, in tokens."""
        return shape_price(parameter_count(self.params), self.memory.platform)

    def _shared_prefixes(self, prompts: Segments, rules: RunRules) -> Prefixes | None:
        """The prefixes to share; ``None`` if the policy forbids it or it would cost more than it saves.

        Rules need all tokens of a prompt, so runs with rules share nothing.
        """
        if self.model.step is None or self.policy.share not in ("auto", "forks") or rules.table is not None:
            return None
        prefixes = Prefixes.of(prompts)
        least = 1 if self.policy.share == "forks" else SHARING * self._shape_price
        return prefixes if prefixes.saved >= least else None

    def _need(self, programs: Sequence[Program]) -> int:
        """Compiles programs, and returns the most bytes that any of them needs on any host."""
        for program in programs:
            self._programs.ask(program)
        with self.clock.phase("compile"), self.clock.generation.compiling_ahead():
            needs = [self._programs.need(self.memory, program) for program in programs]
        return self.memory.largest_need(needs)


class _Run:
    """One run's slots, schedule and texts."""

    def __init__(
        self,
        generator: Generator,
        batching: Batching,
        prompts: Segments,
        settings: Sequence[Settings],
        rules: RunRules,
        finished: Callable[[int, Generated], None],
        watch: DeviceWatch,
        keys: NDArray[np.int32] | None,
    ) -> None:
        self.generator, self.batching, self.finished, self.watch = generator, batching, finished, watch
        self.programs, self.sharding, self.clock = generator._programs, generator.sharding, generator.clock
        self.limits = [one.max_new_tokens for one in settings]
        self.lengths: list[int] = np.diff(prompts.offsets).tolist()
        self.waves = deque(enumerate(batching.waves()))
        self.store: Any = None
        self.schedule = Schedule(self.sharding.groups, batching.begin.slots, batching.insert.rows, deque())
        self.texts = [
            Growing(one, generator._stops.read(one.stops), ends)
            for one, ends in zip(settings, rules.ends, strict=True)
        ]
        self.table = () if rules.table is None else (self._everywhere(rules.table),)
        sampled = batching.decodes[0].choice != "greedy"
        if keys is None:
            none = np.zeros((len(settings), 2), np.int32)
            keys = random_keys(prompts, generator.seed) if sampled else none
        self.rows = Rows(batching, prompts, settings, rules, keys, self.sharding.groups)
        self.stopped: set[int] = set()
        self.failed: list[int] = []
        self.decodes = batching.decodes

    def loop(self) -> None:
        """Runs until every text has ended."""
        slots = self._call(self.batching.begin)
        if self.batching.insert.keep is not None:
            self.store = self._call(self.batching.insert.keep)
        slots = self._next_wave(slots)
        pending: deque[tuple[jax.Array, list[int]]] = deque()
        while self.schedule.waiting or self.schedule.busy:
            while entries := self.schedule.enter(self.limits):
                for inserted in self.rows.together(entries):
                    slots = self._insert(slots, inserted)
                slots = self._next_wave(slots)
            slots = self._shrink(slots)
            slots, emitted = self._decode(slots)
            pending.append((emitted, self.schedule.ask(STEPS)))
            if len(pending) > 1:
                self._look(*pending.popleft())
        while pending:
            self._look(*pending.popleft())

    def _next_wave(self, slots: Any) -> Any:
        """If no requests are left in the queue, prefills the next wave's prefixes and queues its requests."""
        while self.waves and not self.schedule.waiting:
            wave, requests = self.waves.popleft()
            if self.batching.prefixes is not None:
                for batch in self.batching.prefixes.batches[wave]:
                    slots = self._read(slots, *self.rows.of_prefixes(batch))
            self.schedule.waiting.extend(requests.tolist())
        return slots

    def _by_rows(self, array: NDArray[Any]) -> jax.Array:
        return place(array.shape, self.sharding.by_rows, partial(_part, array))

    def _everywhere(self, table: RuleTable) -> RuleTable:
        put = partial(place, sharding=self.sharding.replicated)
        placed: RuleTable = jax.tree.map(lambda leaf: put(leaf.shape, fill=partial(_part, leaf)), table)
        return placed

    def _call(self, program: Program, *arrays: Any) -> Any:
        """Dispatches a program."""
        with explained_memory_errors(str(program)):
            with self.clock.phase("compile"), self.watch.compiling():
                compiled = self.programs.get(program)
            self.watch.handing_over()
            with self.clock.phase("device"):  # some programs run before their call returns
                return compiled(*arrays)

    def _insert(self, slots: Any, entries: list[Entry]) -> Any:
        self.stopped.difference_update(entry.slot for entry in entries)
        with self.clock.phase("host"):
            arrays = self.rows.of_entries(entries)
        return self._read(slots, *arrays)

    def _read(self, slots: Any, *arrays: NDArray[Any]) -> Any:
        """Prefills rows, and puts their states into slots or into the store."""
        tokens, whole, _ = arrays
        self.generator._totals["read_tokens"] += len(tokens) * self.batching.columns(int(whole[:, 0].max()))
        with self.clock.phase("host"):
            placed = [self._by_rows(array) for array in arrays]
        # The output is donated to the next program, so it cannot be watched; that program's tokens are.
        stored = () if self.store is None else (self.store,)
        slots, self.store = self._call(self.batching.insert, slots, *placed, *stored)
        return slots

    def _shrink(self, slots: Any) -> Any:
        """Moves to fewer slots once the last rows fit."""
        last = self.batching.last
        if (
            last is None
            or self.decodes == last[1:]
            or self.schedule.waiting
            or not self.programs.ready(*last)
        ):
            return slots
        taken = self.schedule.shrink(last[1].begin.slots)
        if taken is None:
            return slots
        self.decodes = last[1:]
        self.stopped.clear()
        which = np.array(taken, np.int32)
        return self._call(last[0], slots, place(which.shape, self.sharding.by_rows, partial(_part, which)))

    def _decode(self, slots: Any) -> Any:
        needed = max(
            (
                self.lengths[owner] + self.limits[owner] - max(due - STEPS, 0)
                for owner, due in zip(self.schedule.owners, self.schedule.due, strict=True)
                if owner != FREE
            ),
            default=0,
        )
        decode = next(
            each
            for each in self.decodes
            if not isinstance(each.memory, Recomputing) or each.memory.length >= needed
        )
        mask = np.zeros(self.schedule.slots, np.bool_)
        mask[list(self.stopped)] = True
        self.stopped.clear()
        with self.clock.phase("host"):
            stopped = place(mask.shape, self.sharding.by_rows, partial(_part, mask))
        self.generator._totals["slot_tokens"] += self.schedule.slots * STEPS
        slots, emitted = self._call(decode, slots, stopped, *self.table)
        self.watch.watch(emitted)
        with self.clock.phase("compile"):
            self.programs.advance()
        return slots, emitted

    def _look(self, emitted: jax.Array, owners: list[int]) -> None:
        with self.clock.phase("device"), explained_memory_errors(str(self.decodes[-1])):
            tokens = jax.device_get(emitted).tolist()
        for slot, request in enumerate(owners):
            if request == FREE or self.texts[request].reason is not None:
                continue
            text = self.texts[request]
            text.add(tokens[slot])
            if text.reason is not None:
                left = self.schedule.leave(request)
                if left is not None and text.reason == "stop":
                    self.stopped.add(left)
                self._finish(request, text)

    def _finish(self, request: int, text: Growing) -> None:
        assert text.reason is not None
        if text.reason == "skipped":
            self.failed.append(request)
            return
        totals = self.generator._totals
        totals["generated_tokens"] += len(text.tokens)
        totals[text.reason] += 1
        answer = read_answer(text.tokens, self.generator.tokenizer.decode, self.generator.think_end)
        decoded = text.stops.cut(answer)
        self.finished(request, Generated(decoded, tuple(text.tokens), text.reason))


def random_keys(prompts: Segments, seed: int) -> NDArray[np.int32]:
    """``int32[n, 2]``: the two words of a random key for each prompt.

    The key is a hash of the seed, the prompt's tokens and the number of equal prompts before it.
    """
    tokens = prompts.tokens.astype("<i4")
    seen: Counter[bytes] = Counter()
    words = []
    for start, stop in pairwise(prompts.offsets):
        prompt = tokens[start:stop].tobytes()
        hashed = repr((seed, seen[prompt])).encode() + b" " + prompt
        words.append(np.frombuffer(hashlib.blake2b(hashed, digest_size=8).digest(), "<i4"))
        seen[prompt] += 1
    return np.array(words, np.int32)


def _part(array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    return array[start:stop]
