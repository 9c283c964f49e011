"""Scoring end to end, beside a plain JAX adapter: the same model, the same requests, compilation included.

The rival does what adapters usually do: it encodes one text at a time, takes 64
requests in the order they come, pads them to a multiple of 64, and takes a
log-softmax over the whole vocabulary at every position. Both run in a process of
their own, and their results are compared before any time is printed.

    python benches/bench_scores.py [documents]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

EVALS = Path(__file__).resolve().parents[2] / "shared" / "evals"
MODEL = EVALS / "parity" / "tiny-llama"
ROWS = 64
MULTIPLE = 64
MAX_LENGTH = 256


def requests(documents):
    """All choices of the first documents of each task, in the order lm_eval gives them."""
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(EVALS / "tasks"), include_defaults=False).load(["local_suite"])[
        "tasks"
    ]
    pairs = []
    for task in tasks.values():
        task.set_config(key="num_fewshot", value=0)
        task.build_all_requests(limit=documents // len(tasks), rank=0, world_size=1)
        pairs += [instance.args for instance in task.instances]
    return pairs


def run_windrow(pairs):
    from lm_eval.api.instance import Instance

    import windrow

    lm = windrow.JaxLM(pretrained=str(MODEL), on_bad_request="skip")
    results = lm.loglikelihood(
        [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    )
    report = lm.report()
    return results, {name: report[name] for name in ("device_tokens", "real_tokens", "shapes", "seconds")}


def run_plain(pairs):
    import jax
    import jax.numpy as jnp
    import tokenizers

    from windrow.models import load

    model = load(MODEL)
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))

    @jax.jit
    def logprobs(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return jax.nn.log_softmax(model.apply(params, tokens, positions, jnp.ones_like(tokens)))

    encoded = []
    for context, continuation in pairs:
        stripped = context.rstrip()
        before = len(tokenizer.encode(stripped).ids)
        whole = tokenizer.encode(stripped + context[len(stripped) :] + continuation).ids
        encoded.append((whole[-(MAX_LENGTH + 1) :], len(whole) - before))
    results, shapes, device_tokens = [], set(), 0
    for begin in range(0, len(encoded), ROWS):
        batch = encoded[begin : begin + ROWS]
        longest = max(len(tokens) - 1 for tokens, _ in batch)
        length = -(-longest // MULTIPLE) * MULTIPLE
        inputs = np.zeros((ROWS, length), np.int32)
        for row, (tokens, _) in enumerate(batch):
            inputs[row, : len(tokens) - 1] = tokens[:-1]
        shapes.add((ROWS, length))
        device_tokens += inputs.size
        scores = logprobs(model.params, inputs)
        best = np.asarray(scores.argmax(-1))
        for row, (tokens, scored) in enumerate(batch):
            places = np.arange(len(tokens) - 1 - scored, len(tokens) - 1)
            targets = np.array(tokens[-scored:])
            total = float(scores[row, places, targets].sum())
            results.append((total, bool((best[row, places] == targets).all())))
    return results, {"device_tokens": device_tokens, "shapes": sorted(shapes)}


def child(side, documents, out):
    pairs = json.loads(Path(documents).read_text())
    pairs = [tuple(pair) for pair in pairs]
    begin = perf_counter()
    results, figures = (run_windrow if side == "windrow" else run_plain)(pairs)
    figures["total seconds"] = perf_counter() - begin
    Path(out).write_text(json.dumps({"results": results, "figures": figures}))


def logits_memory():
    """Bytes that the compiled programs hold besides arguments and outputs, for one batch of 8,192 tokens."""
    from dataclasses import replace

    from windrow.models import load
    from windrow.policy import BatchPolicy
    from windrow.scoring import Clock, Scorer
    from windrow.scoring.feed import Feed
    from windrow.scoring.program import CHUNK_BYTES, MOST_PICKS
    from windrow.sharding import RowSharding
    from windrow.tokens import load_tokenizer, loglikelihood_segments

    for name in ("tiny-llama", "tiny-gpt2"):
        folder = EVALS / "parity" / name
        model = load(folder)
        pairs = [("word " * 120, f"and word {number}") for number in range(64)]
        segments = loglikelihood_segments(load_tokenizer(folder), pairs, max_length=128)
        plan = BatchPolicy(batch_size=64, share=False, max_shapes=1).plan(segments, 1)
        sharding = RowSharding.over()
        bytes_held = {}
        for level, parts in (
            ("hidden + head", model),
            ("apply", replace(model, hidden=None, head=None, init_state=None, step=None)),
        ):
            scorer = Scorer(parts, sharding, Clock())
            feed = Feed(plan, segments, sharding)
            analysis = scorer._lower(feed.structs(feed.shapes[0])).compile().memory_analysis()
            bytes_held[level] = analysis.temp_size_in_bytes
        rows, length = plan.batch_shapes[0].tolist()
        token_bytes = 4 * scorer.vocabulary
        chunk = min(feed.shapes[0].picks, MOST_PICKS, CHUNK_BYTES // token_bytes) * token_bytes
        logits = {"hidden + head": chunk, "apply": rows * length * token_bytes}
        print(f"  {name}, {rows} x {length}")
        for what, held in (("logits", logits), ("all temporaries", bytes_held)):
            shown = ", ".join(f"{level} {size / 2**20:,.0f} MiB" for level, size in held.items())
            print(f"    {what}: {shown}; ratio {held['hidden + head'] / held['apply']:.3f}")
    print("  (logits: at most 0.1)")


def main(documents):
    if not EVALS.is_dir():
        print(f"skipped: needs the evaluation material in {EVALS}")
        return
    from windrow.tokens import load_tokenizer, loglikelihood_segments

    pairs = requests(documents)
    skipped = set(
        loglikelihood_segments(
            load_tokenizer(MODEL), pairs, max_length=MAX_LENGTH, on_bad_request="skip"
        ).skipped.tolist()
    )
    pairs = [pair for index, pair in enumerate(pairs) if index not in skipped]
    sides = {}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "pairs.json"
        given.write_text(json.dumps(pairs))
        for side in ("plain", "windrow"):
            out = Path(folder) / f"{side}.json"
            subprocess.run(
                [sys.executable, __file__, side, str(given), str(out)], check=True, stderr=subprocess.DEVNULL
            )
            sides[side] = json.loads(out.read_text())
    plain, ours = (sides[side]["results"] for side in ("plain", "windrow"))
    differing = [
        i
        for i, (a, b) in enumerate(zip(plain, ours, strict=True))
        if abs(a[0] - b[0]) > 1e-3 + 1e-5 * abs(a[0])
    ]
    # The harness's own backend reads a few requests elsewhere (see windrow.grouping).
    assert len(differing) <= len(pairs) // 1000, differing
    assert sum(a[1] != b[1] for a, b in zip(plain, ours, strict=True)) == 0
    print(f"{len(pairs):,} requests of {documents:,} documents, results equal")
    for side, found in sides.items():
        figures = found["figures"]
        print(f"  {side:8} {figures['total seconds']:6.1f} s  {figures['device_tokens']:>10,} device tokens")
        print(f"           {len(figures['shapes'])} shapes {figures['shapes']}  {figures.get('seconds', '')}")
    ratio = sides["plain"]["figures"]["total seconds"] / sides["windrow"]["figures"]["total seconds"]
    print(f"  windrow is {ratio:.2f} times as fast (asked: at least 3.5)")
    print("memory of the programs besides arguments and outputs")
    logits_memory()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
