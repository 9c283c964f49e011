"""Compares continuous batching with static batches and with recomputation, in tokens per second.

There are 200 requests with various prompts, limits and ends, for the tiny Llama of
``../shared/evals/parity``. Its end token is forced at the end of each request's text: most texts are short,
some are long, and which ones is not known in advance.

- *static*: batches of as many rows, sorted by length; each is one program that processes the prompts and
  generates tokens on the device until the slowest row has ended;
- *recomputing*: windrow's method for models without ``step``, on the first requests only, because it is slow.

It then runs 100 documents of GSM8K with 8 fixed examples on the tiny Mamba, compilation included, with and
without shared prefixes. Results are checked to be equal before anything is timed.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from made_segments import as_segments
from windrow import BatchPolicy, LanguageModel
from windrow.generation import GenerationDefaults, Generator, Settings
from windrow.models import load
from windrow.scoring import Clock
from windrow.sharding import RowSharding
from windrow.tokens import load_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "evals" / "parity" / "tiny-llama"
END = 1
REQUESTS, RECOMPUTED, ROWS, REPEATS = 200, 32, 32, 8
SHAPES = 4
MOST_TOKENS = 256
"""The cache is as long as windrow's own for these requests."""


def forced(model: LanguageModel, ends: np.ndarray) -> LanguageModel:
    """The model, but with its end token exactly at position ``ends[first token]``."""

    def flagged(last, positions, ends):
        return jnp.concatenate([last, (positions == ends[:, None])[..., None].astype(last.dtype)], axis=-1)

    def hidden(params, tokens, positions, segment_ids):
        inner, table = params
        return flagged(model.hidden(inner, tokens, positions, segment_ids), positions, table[tokens[:, 0]])

    def head(params, picked):
        logits = model.head(params[0], picked[..., :-1])
        return logits.at[..., END].set(jnp.where(picked[..., -1] > 0, 1e9, -1e9))

    def init_state(params, rows, length):
        return model.init_state(params[0], rows, length), jnp.full(rows, -1, jnp.int32)

    def step(params, state, tokens, positions, segment_ids):
        inner, table = params
        begins = (positions[:, 0] == 0) & (segment_ids[:, 0] > 0)
        until = jnp.where(begins, table[tokens[:, 0]], state[1])
        cache, last = model.step(inner, state[0], tokens, positions, segment_ids)
        return (cache, until), flagged(last, positions, until)

    return replace(
        model,
        params=(model.params, jnp.asarray(ends, jnp.int32)),
        apply=lambda params, *inputs: head(params, hidden(params, *inputs)),
        hidden=hidden,
        head=head,
        init_state=init_state,
        step=step,
    )


def make_requests(seed: int = 0) -> tuple[list[np.ndarray], list[int], np.ndarray]:
    """Prompts, limits, and where the text of each first token ends; all first tokens differ."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(3, 4096, rng.integers(8, 48)).astype(np.int32) for _ in range(REQUESTS)]
    long = rng.random(REQUESTS) < 0.1
    made = np.where(long, rng.integers(120, 190, REQUESTS), rng.integers(2, 24, REQUESTS))
    limits = rng.choice([24, 64, 128, 190], REQUESTS, p=[0.1, 0.1, 0.2, 0.6])
    ends = np.full(4096, -1)
    for number, (prompt, tokens) in enumerate(zip(prompts, made, strict=True)):
        prompt[0] = 100 + number
        ends[prompt[0]] = len(prompt) + tokens - 2
    return prompts, limits.tolist(), ends


def continuous(generator: Generator, prompts: list[np.ndarray], limits: list[int]) -> list[tuple[int, ...]]:
    results: dict[int, tuple[int, ...]] = {}
    generator.run(
        as_segments(prompts, [0] * len(prompts)),
        [Settings(limit) for limit in limits],
        lambda index, generated: results.update({index: generated.tokens}),
    )
    return [results[index] for index in range(len(prompts))]


@partial(jax.jit, static_argnums=0)
def answer_batch(model: LanguageModel, params, tokens, lengths, limits):
    """Prefills a batch's prompts and generates tokens until its last row has ended."""
    rows, length = tokens.shape
    columns = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), tokens.shape)
    real = (columns < lengths[:, None] - 1).astype(jnp.int32)
    state, _ = model.step(params, model.init_state(params, rows, MOST_TOKENS), tokens, columns, real)
    last = jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)[:, 0]

    def one(carry):
        state, token, position, left, made, count = carry
        active = left > 0
        state, hidden = model.step(
            params, state, token[:, None], position[:, None], active[:, None].astype(jnp.int32)
        )
        chosen = jnp.argmax(model.head(params, hidden[:, 0]), axis=-1).astype(jnp.int32)
        made = made.at[:, count].set(jnp.where(active, chosen, -1))
        left = jnp.where(chosen == END, 0, left - active.astype(jnp.int32))
        return state, chosen, position + active.astype(jnp.int32), left, made, count + 1

    made = jnp.full((rows, 256), -1, jnp.int32)
    carry = (state, last, lengths - 1, limits, made, jnp.int32(0))
    return jax.lax.while_loop(lambda carry: jnp.any(carry[3] > 0), one, carry)[4]


def static(model: LanguageModel, prompts: list[np.ndarray], limits: list[int]) -> list[tuple[int, ...]]:
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    results: list[tuple[int, ...]] = [()] * len(prompts)
    for start in range(0, len(order), ROWS):
        chosen = order[start : start + ROWS]
        length = -(-len(prompts[chosen[0]]) // 16) * 16
        tokens, lengths = np.zeros((ROWS, length), np.int32), np.ones(ROWS, np.int32)
        most = np.zeros(ROWS, np.int32)
        for row, index in enumerate(chosen):
            tokens[row, : len(prompts[index])] = prompts[index]
            lengths[row], most[row] = len(prompts[index]), limits[index]
        made = np.asarray(answer_batch(model, model.params, tokens, lengths, most))
        for index, row in zip(chosen, made.tolist(), strict=False):
            results[index] = tuple(token for token in row if token >= 0)
    return results


def seconds(run) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def main() -> None:
    if not FOLDER.is_dir():
        sys.exit(f"left out: needs the tiny Llama in {FOLDER}")
    prompts, limits, ends = make_requests()
    model = forced(load(FOLDER), ends)
    sharding = RowSharding.over(Mesh(np.array(jax.devices()[:1]), ("data",)))
    policy = BatchPolicy(batch_size=ROWS, max_shapes=SHAPES)
    defaults = GenerationDefaults((END,))
    tokenizer = load_tokenizer(FOLDER)
    make = partial(
        Generator, tokenizer=tokenizer, sharding=sharding, clock=Clock(), defaults=defaults, policy=policy
    )
    stepping = make(model)
    recomputing = make(replace(model, init_state=None, step=None))

    made = continuous(stepping, prompts, limits)
    assert made == static(model, prompts, limits)
    assert made[:RECOMPUTED] == continuous(recomputing, prompts[:RECOMPUTED], limits[:RECOMPUTED])
    programs = stepping.report()["programs"]
    assert programs <= SHAPES + 4

    tokens, few = sum(map(len, made)), sum(map(len, made[:RECOMPUTED]))
    runs = {"continuous": [], "static": [], "recomputing": []}
    for _ in range(REPEATS):
        runs["continuous"].append(seconds(lambda: continuous(stepping, prompts, limits)))
        runs["static"].append(seconds(lambda: static(model, prompts, limits)))
    runs["recomputing"].append(
        seconds(lambda: continuous(recomputing, prompts[:RECOMPUTED], limits[:RECOMPUTED]))
    )
    speed = {name: (few if name == "recomputing" else tokens) / min(times) for name, times in runs.items()}
    use = {"continuous": stepping.report()["slot_use"], "recomputing": recomputing.report()["slot_use"]}
    print(f"{REQUESTS} requests, {tokens:,} tokens, {ROWS} rows")
    for name, per_second in speed.items():
        ratio = f"continuous is {speed['continuous'] / per_second:.1f} times that"
        shown = f"   slot use {use[name]:.2f}" if name in use else ""
        print(f"{name:12} {per_second:8,.0f} tokens/s   {ratio}{shown}")
    without = recomputing.report()["programs"]
    print(f"compiled programs: {programs} (bound {SHAPES + 4}); without step: {without}")


EVALS = FOLDER.parents[1]
DOCUMENTS, EXAMPLES = 100, 8


def few_shot(share: str) -> None:
    """Generates the texts of GSM8K with one setting; prints their hash, seconds and tokens read."""
    import hashlib

    from lm_eval.tasks import TaskManager

    from windrow import JaxLM

    with tempfile.TemporaryDirectory() as tasks:
        Path(tasks, "fixed.yaml").write_text(
            f"include: {EVALS / 'tasks' / 'local_gsm8k.yaml'}\ntask: fixed\n"
            f"num_fewshot: {EXAMPLES}\nfewshot_config:\n  sampler: first_n\n"
        )
        manager = TaskManager(include_path=tasks, include_defaults=False)
        (task,) = manager.load(["fixed"])["tasks"].values()
    task.build_all_requests(limit=DOCUMENTS, rank=0, world_size=1)
    folder = str(EVALS / "parity" / "tiny-mamba")
    start = perf_counter()
    lm = JaxLM(pretrained=folder, share=share, max_length=8192)
    texts = lm.generate_until(task.instances)
    figures = lm.report()["generation"]
    print(
        hashlib.sha1(repr(texts).encode()).hexdigest(), perf_counter() - start, figures["prompt_tokens"],
        figures["read_tokens"], figures["generated_tokens"],
    )  # fmt: skip


def compare_few_shot() -> None:
    """Each variant in a separate process, without a compilation cache."""
    uncached = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    found = {}
    for share in ("False", "auto"):
        command = [sys.executable, __file__, "--few-shot", share]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=uncached)
        digest, *numbers = ran.stdout.split()[-5:]
        found[share] = digest, [float(number) for number in numbers]
    assert found["False"][0] == found["auto"][0], "texts differ"
    print(f"{DOCUMENTS} documents of local_gsm8k, {EXAMPLES} fixed examples, tiny Mamba, texts equal")
    for share, (_, (took, prompt, read, new)) in found.items():
        print(
            f"  share={share:6} {took:7.1f} s {prompt:,.0f} prompt tokens, {read:,.0f} read, {new:,.0f} new"
        )
    ratio = found["False"][1][0] / found["auto"][1][0]
    print(f"  {ratio:.2f} times as fast (asked: at least 2)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--few-shot"]:
        few_shot(sys.argv[2])
    else:
        main()
        compare_few_shot()
