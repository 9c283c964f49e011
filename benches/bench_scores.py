"""Times scoring end to end with compilation: a plain JAX adapter, one input per row, and windrow's choice.

Each measurement is its own process. Results are compared before any time is printed, and the sides take
turns. The plain adapter does what adapters usually do: it encodes one text at a time, takes 64 requests in
arrival order, pads them to a multiple of 64, and takes a log-softmax over the whole vocabulary at every
position. "Equal" is windrow with ``share="equal", pack=False``; "auto" is windrow with its defaults.

    python benches/bench_scores.py [plain] [suite] [examples] [forks] [answers] [tasks] [memory]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

EVALS = Path(__file__).resolve().parents[2] / "shared" / "evals"
ROWS, MULTIPLE, MAX_LENGTH = 64, 64, 256
SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology",
    "college_chemistry", "computer_security", "econometrics", "global_facts",
)  # fmt: skip
EQUAL = {"share": "equal", "pack": False}
REPEATS = 2


def instances(tasks, examples, limit):
    """The requests of some tasks, with their documents, in lm_eval's order."""
    import logging

    from lm_eval.tasks import TaskManager

    logging.disable(logging.WARNING)
    manager = TaskManager(include_path=str(EVALS / "tasks"), include_defaults=False)
    found = []
    for task in manager.load(tasks)["tasks"].values():
        task.set_config(key="num_fewshot", value=examples)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        found += task.instances
    return found


def pairs_of(tasks, examples, limit):
    return [instance.args for instance in instances(tasks, examples, limit)]


def answers_as_texts(tasks, examples, limit):
    """The same questions, continued by the texts of the answers instead of their letters."""
    return [
        (instance.args[0], " " + instance.doc["choices"]["ABCD".index(instance.args[1].strip())])
        for instance in instances(tasks, examples, limit)
    ]


def run_windrow(folder, pairs, settings):
    from lm_eval.api.instance import Instance

    import windrow

    begin = perf_counter()
    lm = windrow.JaxLM(pretrained=folder, on_bad_request="skip", **settings)
    requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    results = lm.loglikelihood(requests)
    seconds = perf_counter() - begin
    report = lm.report()
    names = ("device_tokens", "real_tokens", "shapes", "layout")
    return results, {
        "seconds": seconds,
        "flops": operations(lm, pairs),
        **{name: report[name] for name in names if name in report},
    }


def operations(lm, pairs):
    """XLA's operation counts for the forward passes of all batches; a loop over layers counts once."""
    import jax
    import jax.numpy as jnp

    from windrow.model import run_forward
    from windrow.tokens import loglikelihood_segments

    segments = loglikelihood_segments(lm.tokenizer, pairs, max_length=lm.max_length, on_bad_request="skip")
    shapes, counts = np.unique(lm._scorer.plan(lm.policy, segments).batch_shapes, axis=0, return_counts=True)
    total = 0
    for shape, count in zip(shapes.tolist(), counts.tolist(), strict=True):
        batch = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
        forward = jax.jit(lambda params, *batch: run_forward(lm.model.forward, params, *batch))
        total += forward.lower(lm.model.params, *batch).cost_analysis()["flops"] * count
    return total


def run_plain(folder, pairs):
    import jax
    import jax.numpy as jnp
    import tokenizers

    from windrow.models import load

    begin = perf_counter()
    model = load(folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))

    @jax.jit
    def logprobs(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        return jax.nn.log_softmax(model.apply(params, tokens, positions, jnp.ones_like(tokens)))

    encoded = []
    for context, continuation in pairs:
        stripped = context.rstrip()
        before = len(tokenizer.encode(stripped).ids)
        whole = tokenizer.encode(stripped + context[len(stripped) :] + continuation).ids
        encoded.append((whole[-(MAX_LENGTH + 1) :], len(whole) - before))
    results, shapes, device_tokens = [], set(), 0
    for first in range(0, len(encoded), ROWS):
        batch = encoded[first : first + ROWS]
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
    seconds = perf_counter() - begin
    return results, {"seconds": seconds, "device_tokens": device_tokens, "shapes": sorted(shapes)}


def child(job, out):
    """One measurement, in a separate process."""
    job = json.loads(Path(job).read_text())
    pairs = [tuple(pair) for pair in job["pairs"]]
    if job["settings"] is None:
        results, figures = run_plain(job["folder"], pairs)
    else:
        results, figures = run_windrow(job["folder"], pairs, job["settings"])
    Path(out).write_text(json.dumps({"results": results, "figures": figures}))


def measure(model, pairs, sides, repeats=REPEATS):
    """The results of each side, and the figures of its fastest run; the sides take turns."""
    found = {}
    for _ in range(repeats):
        for side, settings in sides.items():
            job = {"folder": str(EVALS / "parity" / model), "pairs": pairs, "settings": settings}
            made = in_process(__file__, job)
            if side not in found or made["figures"]["seconds"] < found[side]["figures"]["seconds"]:
                found[side] = made
    return found


def in_process(script, job, python=sys.executable, **variables):
    """The output of a script's ``child`` for a job, in a separate process with an empty compilation cache."""
    environment = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "job.json", Path(folder) / "out.json"
        files[0].write_text(json.dumps(job))
        done = subprocess.run(
            [python, script, "--child", *files],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | variables,
        )
        if done.returncode:
            raise RuntimeError(f"a run of {script} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(files[1].read_text())


def run_parts(parts, child):
    """Runs what a benchmark's command line asks for: some of its parts, all of them, or one child's job.

    Arguments with ``=`` are left for the parts to read.
    """
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    elif not EVALS.is_dir():
        print(f"skipped: needs the evaluation material in {EVALS}")
    else:
        for name in [each for each in sys.argv[1:] if "=" not in each] or parts:
            parts[name]()


def check_equal(sides, allowed=0):
    """Exits if the results of two sides differ; the sums of ``allowed`` requests may differ."""
    first, *others = (found["results"] for found in sides.values())
    for other in others:
        gaps = [abs(a[0] - b[0]) > 1e-3 + 1e-5 * abs(a[0]) for a, b in zip(first, other, strict=True)]
        assert sum(gaps) <= allowed, f"{sum(gaps)} sums differ"
        assert all(a[1] == b[1] for a, b in zip(first, other, strict=True)), "flags differ"


def show(title, sides, asked):
    slower, quicker = sides.values()
    print(f"{title}: {len(slower['results']):,} requests, results equal")
    for side, found in sides.items():
        figures = found["figures"]
        chosen = {name: value for name, value in figures.get("layout", {}).items() if name != "costs"}
        print(
            f"  {side:6} {figures['seconds']:7.1f} s {figures['device_tokens']:>10,} device tokens, "
            f"{len(figures['shapes'])} shapes {figures.get('flops', 0) / 1e9:10,.1f} GFLOP a layer  {chosen}"
        )
    ratio = slower["figures"]["seconds"] / quicker["figures"]["seconds"]
    print(f"  {ratio:.2f} times as fast (asked: at least {asked})", flush=True)


def plain():
    pairs = pairs_of(["local_suite"], 0, 125)
    sides = measure("tiny-llama", pairs, {"auto": {}})
    kept = [
        pair for pair, result in zip(pairs, sides["auto"]["results"], strict=True) if np.isfinite(result[0])
    ]
    sides = measure("tiny-llama", kept, {"plain": None, "auto": {}})
    # lm_eval's own backend reads the scores of a few requests at other positions (see windrow.grouping).
    check_equal(sides, allowed=len(kept) // 1000)
    show("local_suite, 1,000 documents", sides, 3.5)


def suite():
    sides = measure("tiny-llama", pairs_of(["local_suite"], 0, 125), {"equal": EQUAL, "auto": {}})
    check_equal(sides)
    show("local_suite, 1,000 documents", sides, 1.3)


def examples():
    pairs = pairs_of([f"local_mmlu_{subject}" for subject in SUBJECTS], 5, None)
    sides = measure("tiny-llama_long", pairs, {"equal": EQUAL, "auto": {}}, repeats=1)
    check_equal(sides)
    show("ten subjects of local_mmlu, 5 examples", sides, 4)


def forks():
    """A model without a mask: shared prefixes run once, as forked states."""
    pairs = pairs_of([f"local_mmlu_{subject}" for subject in SUBJECTS], 5, None)
    sides = measure("tiny-mamba", pairs, {"equal": EQUAL, "auto": {}}, repeats=1)
    check_equal(sides)
    show("Mamba: ten subjects of local_mmlu, 5 examples", sides, 4)
    sides = measure("tiny-mamba", pairs_of(["local_suite"], 0, 125), {"equal": EQUAL, "auto": {}})
    check_equal(sides)
    show("Mamba: local_suite, 1,000 documents", sides, 0.95)


def answers():
    pairs = answers_as_texts([f"local_mmlu_{subject}" for subject in SUBJECTS], 5, 100)
    sides = measure("tiny-llama_long", pairs, {"equal": EQUAL, "auto": {}}, repeats=1)
    check_equal(sides)
    show("the same, the answers' texts to continue", sides, 8)


def tasks():
    print("each task of local_suite, 100 documents (asked: at most 1.1 times as long)")
    for task in (
        "arc_challenge",
        "arc_easy",
        "boolq",
        "lambada_openai",
        "openbook_qa",
        "piqa",
        "siqa",
        "winogrande",
    ):
        sides = measure(
            "tiny-llama", pairs_of([f"local_{task}"], 0, 100), {"equal": EQUAL, "auto": {}}, repeats=3
        )
        check_equal(sides)
        equal, auto = (found["figures"] for found in sides.values())
        chosen = {name: value for name, value in auto["layout"].items() if name != "costs"}
        print(
            f"  {task:16} {auto['seconds'] / equal['seconds']:5.2f}  {auto['seconds']:.2f} s  {chosen}",
            flush=True,
        )


def memory():
    """Bytes that programs hold in addition to arguments and outputs, for one batch of 8,192 tokens."""
    from dataclasses import replace

    from windrow.models import load
    from windrow.sizing.policy import BatchPolicy
    from windrow.tokens import load_tokenizer, loglikelihood_segments

    print("memory of a program without arguments and outputs, 8,192 tokens")
    for name in ("tiny-llama", "tiny-gpt2"):
        folder = EVALS / "parity" / name
        model = load(folder)
        pairs = [(f"{number} " + "word " * 120, f"and word {number}") for number in range(64)]
        segments = loglikelihood_segments(load_tokenizer(folder), pairs, max_length=128)
        policy = BatchPolicy(batch_size=64, share=False, pack=False, max_shapes=1)
        held = {
            "apply": temporaries(
                replace(model, hidden=None, head=None, init_state=None, step=None), segments, policy
            ),
            "hidden and head": temporaries(model, segments, policy),
            "packed": temporaries(model, segments, BatchPolicy(pack=True, share=False)),
            "trees": temporaries(model, segments, BatchPolicy(share="trees")),
        }
        for level, (shape, size) in held.items():
            ratio = size / held["hidden and head"][1]
            print(f"  {name:11} {level:16}{shape!s:>12} {size / 2**20:8,.1f} MiB  {ratio:5.2f}")
    print("  (asked: trees at most 1.2)")


def temporaries(model, segments, policy):
    """The shape and temporaries of the program for a policy's first batch."""
    from dataclasses import replace

    import jax

    from windrow.scoring import Clock, Scorer
    from windrow.scoring.feed import Feed
    from windrow.sharding import RowSharding

    sharding = RowSharding.over()
    scorer = Scorer(model, sharding, Clock())
    feed = Feed(scorer.plan(policy, segments), segments, sharding)
    structs = feed.structs(feed.shapes[0])
    functions = replace(model, params=None)
    with jax.set_mesh(sharding.mesh):
        lowered = feed.program(feed.shapes[0], functions, None).lower(scorer.params, *structs)
    return (
        (feed.shapes[0].rows, feed.shapes[0].length),
        lowered.compile().memory_analysis().temp_size_in_bytes,
    )


def checks():
    """The least processor time of three calls of ``check_model`` after its programs are compiled."""
    from windrow import check_model
    from windrow.models import load

    model, times = load(EVALS / "parity" / "tiny-llama"), []
    for _ in range(4):
        begin = process_time()
        assert not check_model(model).failed
        times.append(process_time() - begin)
    print(f"check_model of the tiny Llama: {min(times[1:]):.1f} s of processor time (asked: less than 3)")


PARTS = {part.__name__: part for part in (plain, suite, examples, forks, answers, tasks, memory, checks)}

if __name__ == "__main__":
    run_parts(PARTS, child)
