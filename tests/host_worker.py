"""One of several processes in the tests of multiple hosts.

python host_worker.py TASKS FOLDER [--coordinator ... --process-count ... --process-id ...]

TASKS are separated by commas. The result of each is written to a file.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import defaultdict
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

import joining
import windrow
from byte_tokenizer import ByteTokenizer
from small_model import head, hidden, init_state, prefix_model, step
from small_tokenizer import write_tokenizer
from windrow import JaxLM, LanguageModel
from windrow.cli import run
from windrow.corpus import stream as corpus
from windrow.scoring import Scorer
from windrow.scoring.feed import Feed
from windrow.scoring.gathering import Gatherer
from windrow.sharding import HostsDifferError, leaving_at_once, own_mesh
from windrow.sizing import memory
from windrow.tokens import loglikelihood_segments


def shardings():
    """Three shardings over the devices of all processes, independent of the default device order."""
    devices = np.array(sorted(jax.devices(), key=lambda device: (device.process_index, device.id)))
    across = devices.reshape(2, -1).T  # neighbors along the second axis are on different processes
    return {
        "data": NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data")),
        "tensor": NamedSharding(Mesh(across, ("data", "tensor")), PartitionSpec("data")),
        "replicated": NamedSharding(Mesh(devices, ("data",)), PartitionSpec()),
    }


def generated_pairs(count=300, seed=0):
    """Questions of various lengths with four answers each."""
    rng = np.random.default_rng(seed)

    def text(longest):
        return bytes(rng.integers(97, 123, rng.integers(1, longest)).astype(np.uint8)).decode()

    questions = [text(60) for _ in range(count // 4)]
    return [(question, " " + text(8)) for question in questions for _ in range(4)]


def instances(pairs):
    return [
        Instance("loglikelihood", {}, pair, index, ("questions", index, 1))
        for index, pair in enumerate(pairs)
    ]


@cache
def small_model():
    return prefix_model(258, hidden=hidden, head=head, max_length=64)


def spread_model(sharding):
    """The small model, with its width split over the mesh's tensor axis, if there is one."""
    model = small_model()
    if sharding is None or "tensor" not in sharding.mesh.axis_names:
        return model
    specs = {"embedding": PartitionSpec(None, "tensor"), "head": PartitionSpec("tensor", None)}
    params = {
        name: jax.device_put(np.asarray(value), NamedSharding(sharding.mesh, specs[name]))
        for name, value in model.params.items()
    }
    return LanguageModel(**{**vars(model), "params": params})


def generated_lm(folder, sharding, model=None, bos=True, **arguments):
    model = model or spread_model(sharding)
    tokenizer = write_tokenizer(folder / f"tokenizer-{jax.process_index()}", bos=bos)
    return JaxLM(model, tokenizer, sharding=sharding, **{"batch_size": 32, "max_shapes": 2, **arguments})


def real_lm(evals, sharding):
    return JaxLM(
        pretrained=str(evals / "parity" / "tiny-llama"), sharding=sharding, batch_size=64, max_shapes=1
    )


def feed_of(lm, pairs):
    segments = loglikelihood_segments(lm.tokenizer, pairs, max_length=lm.max_length)
    return Feed(lm.policy.plan(segments, lm.sharding.groups), segments, lm.sharding)


def row_digests(feed):
    """A hash of tokens, layout and reads, for each row of each batch that this process holds."""
    digests = defaultdict(dict)
    for batch, shape in enumerate(feed.shapes):
        tokens, layout, *reads = feed.arrays(batch)
        parts = {}
        for array in (tokens, layout):
            for shard in array.addressable_shards:
                first = shard.index[0].start or 0
                for row, values in enumerate(np.asarray(shard.data), first):
                    parts.setdefault((row, shard.device), []).append(np.ascontiguousarray(values).tobytes())
        for (row, device), found in read_rows(feed, batch, shape, reads).items():
            parts[row, device].append(np.array(sorted(found)).tobytes())
        for (row, _), found in parts.items():
            digest = blake2b(b"|".join(found), digest_size=16).hexdigest()
            assert digests[batch].setdefault(row, digest) == digest, (
                "two devices hold different copies of a row"
            )
    return digests


def read_rows(feed, batch, shape, reads):
    """The tokens that are read and their positions in each row, independent of the grouping of rows."""
    plan, segments, groups = feed.plan, feed.segments, feed.sharding.groups
    members = plan.batch_segments(batch)
    scored = (np.diff(segments.offsets) - segments.score_starts)[members]
    rows = shape.rows // groups
    counts = np.bincount(plan.rows[members] // rows, scored, groups).astype(int)
    found = {}
    for shards in zip(*(array.addressable_shards for array in reads), strict=True):
        device, first = shards[0].device, shards[0].index[0].start or 0
        picks, at, target = (np.asarray(shard.data) for shard in shards)
        for row in range(first * rows, (first + len(picks)) * rows):
            found[row, device] = []
        for group, count in enumerate(counts[first : first + len(picks)]):
            for place, token in zip(at[group, :count], target[group, :count], strict=True):
                row, column = divmod(int(picks[group, place]), shape.length)
                found[(first + group) * rows + row, device].append((column, int(token)))
    return found


def work(options):
    """Batches and scores under three shardings, and the errors of a process when the others differ."""
    result = {"process": jax.process_index(), "digests": {}, "scores": {}}
    for name, sharding in shardings().items():
        lm = generated_lm(options.folder, sharding)
        result["digests"][name] = row_digests(feed_of(lm, generated_pairs()))
        result["scores"][name] = lm.loglikelihood(instances(generated_pairs()))
    write(options, result)


def real(options):
    """The same with real requests and a trained model."""
    pairs = [tuple(pair) for pair in json.loads((options.folder / "pairs.json").read_text())]
    result = {"process": jax.process_index(), "digests": {}, "scores": {}}
    for name, sharding in shardings().items():
        lm = real_lm(options.evals, sharding)
        result["digests"][name] = row_digests(feed_of(lm, pairs))
        result["scores"][name] = lm.loglikelihood(instances(pairs))
    write(options, result)


class OddTokenizer(ByteTokenizer):
    """Encodes the first letter of a long text differently on process 1."""

    def encode(self, text):
        return super().encode("?" + text[1:] if jax.process_index() and len(text) > 50 else text)


def stream(folder, tokenizer, names, output):
    """Scores these files of one document each; does not wait for a folder that others do not see."""
    corpus.SEEN_SECONDS = 0.0
    for name in names:
        if not (folder / f"{name}.jsonl").exists():
            (folder / f"{name}.jsonl").write_text('{"text": "a text"}')
    files = windrow.corpus.Paths([str(folder / f"{name}.jsonl") for name in names])
    windrow.score_stream(small_model(), tokenizer, files, folder / output, progress=False)


def keeping(folder, sharding, keeps):
    lm = generated_lm(folder, sharding)
    if keeps:
        lm.keep_results(folder / "kept")
    return lm


def disagree(options):
    """Each kind of disagreement in turn, and the requests of process 0 used on all processes."""
    number, pairs = jax.process_index(), generated_pairs(40)
    other = [*pairs[:7], ("another question", " answer"), *pairs[8:]]
    late = [*pairs[:7], (pairs[7][0] + "x" * 100, f" {min(number, 1)}"), *pairs[8:]]
    sharding = shardings()["data"]
    cases = {
        "request": lambda: generated_lm(options.folder, sharding).loglikelihood(
            instances(other if number else pairs)
        ),
        "late": lambda: generated_lm(options.folder, sharding).loglikelihood(instances(late)),
        "fewer": lambda: generated_lm(options.folder, sharding).loglikelihood(
            instances(pairs[:-1] if number else pairs)
        ),
        "type": lambda: (
            generated_lm(options.folder, sharding).loglikelihood_rolling(instances(pairs))
            if number
            else generated_lm(options.folder, sharding).loglikelihood(instances(pairs))
        ),
    }
    tokenizer = write_tokenizer(options.folder / f"tokenizer-{number}", bos=True)
    score = partial(windrow.score, small_model(), tokenizer, sharding=sharding)
    generate = partial(windrow.generate, small_model(), tokenizer, sharding=sharding, max_new_tokens=2)
    turned = Mesh(sharding.mesh.devices[:: -1 if number else 1], ("data",))
    cases |= {
        "score: request": lambda: score(other if number else pairs),
        "score: policy": lambda: score(pairs, policy=windrow.BatchPolicy(batch_size=64 if number else 32)),
        "generate: request": lambda: generate(["a", "c" if number else "b"]),
        "generate: seed": lambda: generate(["a", "b"], temperature=1.0, seed=number),
        "score: sharding": lambda: score(pairs, sharding=turned),
        "call": lambda: generate(["a"]) if number else score(pairs),
        "encoded": lambda: windrow.score(small_model(), OddTokenizer(), pairs, sharding=sharding),
        "stream: input": lambda: stream(options.folder, tokenizer, ["a", "b"][: 2 - number], "scores"),
        "stream: folder": lambda: stream(options.folder, tokenizer, ["a"], f"scores-{number}"),
        "keep": lambda: keeping(options.folder, sharding, number == 1).loglikelihood(instances(pairs)),
        "command": lambda: run._check_same_command({"tasks": ["a", "b"][number:], "use_cache": None}, None),
    }
    if number:  # on its own devices, a process need not wait for others
        windrow.score(small_model(), tokenizer, pairs[:4], sharding=own_mesh())
    messages = {}
    for name, case in cases.items():
        try:
            case()
        except HostsDifferError as error:
            messages[name] = str(error)
    lm = generated_lm(options.folder, sharding, requests_from_first_host=True)
    scores = lm.loglikelihood(instances(generated_pairs(20, seed=9) if number else pairs))
    write(options, {"process": number, "messages": messages, "scores": scores})


def differ(options):
    """Fails because one process has different requests or settings."""
    number, what = jax.process_index(), options.what
    lm = generated_lm(
        options.folder,
        shardings()["data"],
        bos=not (what == "tokenizer" and number),
        batch_size=64 if what == "batch size" and number else 32,
    )
    lm.loglikelihood(instances(generated_pairs(seed=number if what == "request" else 0)))


def feed(options):
    """Process 0 feeds all batches under all shardings while the others are stopped; then all score."""
    lms = [generated_lm(options.folder, sharding) for sharding in shardings().values()]
    pairs = generated_pairs()
    feeds = [feed_of(lm, pairs) for lm in lms]
    for lm in lms:
        lm._agreed("loglikelihood", instances(pairs))
    print("agreed", flush=True)
    if jax.process_index() == 0:
        await_file(options.folder / "stopped")
        for made in feeds:
            for batch in range(len(made.shapes)):
                jax.block_until_ready(made.arrays(batch))
            print(f"fed {len(made.shapes)} batches", flush=True)
        print("fed all", flush=True)
    else:
        await_file(options.folder / "fed")
    made = feeds[0]
    Scorer(lms[0].model, lms[0].sharding, lms[0].clock).run(made.plan, made.segments)
    print("scored", flush=True)


def caching(options):
    """A cache is used for its own model on all processes, even if only process 0 has it, and for no other."""
    number, pairs = jax.process_index(), generated_pairs(8)

    def cached(model=None):
        lm = generated_lm(options.folder, shardings()["tensor"], model)
        return lm, CachingLM(lm, str(options.folder / f"kept_rank{number}.db"))

    scores = cached()[1].loglikelihood(instances(pairs))
    if number:
        os.remove(options.folder / f"kept_rank{number}.db")
    lm, again = cached()
    same = again.loglikelihood(instances(pairs)) == [tuple(score) for score in scores]
    try:
        cached(prefix_model(258, seed=1, hidden=hidden, head=head, max_length=64))
        message = ""
    except ValueError as error:
        message = str(error)
    write(options, {"process": number, "same": same, "ran": lm.report()["requests"], "message": message})


def slow(options):
    """A run with slow batches on this host; records when scores arrive, and how many at a time."""
    gathered, times, flush, arrays = [], [], Gatherer.flush, Feed.arrays

    def telling(gatherer):
        whole = list(flush(gatherer))
        if whole:
            gathered.append(whole[-1][0] + 1)
        return iter(whole)

    def slowly(feed, batch):
        time.sleep(0.25)
        return arrays(feed, batch)

    lm = generated_lm(options.folder, shardings()["data"], batch_size=4)
    made = feed_of(lm, generated_pairs(240))
    Gatherer.flush, Feed.arrays = telling, slowly
    begin = time.monotonic()
    Scorer(lm.model, lm.sharding, lm.clock).run(
        made.plan, made.segments, lambda *_: times.append(time.monotonic() - begin)
    )
    result = {"batches": len(made.shapes), "gathered_after": gathered, "times": times}
    write(options, {**result, "seconds": time.monotonic() - begin})


def harness(options):
    """lm_eval's own evaluation with several processes."""
    from lm_eval import simple_evaluate  # imported here, because it takes a second
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(options.evals / "tasks"), include_defaults=False)
    found = simple_evaluate(
        real_lm(options.evals, None),
        tasks=["local_arc_easy"],
        task_manager=tasks,
        limit=10,
        bootstrap_iters=0,
    )
    accuracy = None if found is None else found["results"]["local_arc_easy"]["acc,none"]
    write(options, {"process": jax.process_index(), "accuracy": accuracy})


def auto(options):
    """Batches and slots sized to memory, with different amounts on the processes."""
    number = jax.process_index()
    memory.available_bytes = lambda: (24 << 20) * (3 - number)
    sharding = shardings()["data"]
    parts = {"hidden": hidden, "head": head, "init_state": init_state, "step": step}
    model = prefix_model(258, width=256, max_length=64, **parts)
    lm = generated_lm(options.folder, sharding, model, batch_size="auto")
    scores = lm.loglikelihood(instances(generated_pairs()))
    asked = [(question, {"max_gen_toks": 8}) for question, _ in generated_pairs()[::4]]
    texts = lm.generate_until([Instance("generate_until", {}, args, at) for at, args in enumerate(asked)])
    limited = generated_lm(options.folder, sharding, model, batch_size="auto", memory_budget="120MiB")
    limited.loglikelihood(instances(generated_pairs()))
    report, given = lm.report()["auto"], limited.report()["auto"]["scoring"]
    result = {"process": number, "report": report, "given": given, "scores": scores, "texts": texts}
    write(options, result)


def fail(options):
    """One process raises in its model function, is killed, or is stopped during the run."""
    what, victim = options.what.split(":")
    mine = jax.process_index() == int(victim)

    def refusing(params, tokens, positions, segment_ids):
        if mine and what == "raise" and tokens.shape[1] < 40:
            raise RuntimeError("the model function gives up")
        return hidden(params, tokens, positions, segment_ids)

    class Hook:
        seen = 0

        def add_partial(self, *_):
            self.seen += 1
            if mine and what != "raise" and self.seen == 50:
                print("fails", flush=True)
                os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[what])

    sharding = shardings()["tensor"]
    model = LanguageModel(**{**vars(spread_model(sharding)), "hidden": refusing})
    lm = generated_lm(options.folder, sharding, model)
    lm.set_cache_hook(Hook())
    print("begins", flush=True)
    lm.loglikelihood(instances(generated_pairs()))
    print("ended", flush=True)


def write(options, result):
    (options.folder / f"{options.task}-{jax.process_index()}.json").write_text(json.dumps(result))


def await_file(path):
    while not path.exists():
        time.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--what")
    parser.add_argument("--evals", type=Path)
    given = joining.parse(parser)
    with leaving_at_once():
        given.launch.start()
        for task in given.tasks.split(","):
            given.task = task
            globals()[task](given)
    sys.stdout.flush()
