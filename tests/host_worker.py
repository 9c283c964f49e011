"""What one of several processes does in the tests of hosts.

python host_worker.py TASK FOLDER [--coordinator ... --process-count ... --process-id ...]
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

from small_model import head, hidden, prefix_model
from small_tokenizer import write_tokenizer
from windrow import JaxLM, LanguageModel
from windrow.scoring import Scorer
from windrow.scoring.feed import Feed
from windrow.sharding import HostsDifferError, leaving_at_once
from windrow.sharding.launch import Launch
from windrow.tokens import loglikelihood_segments


class ByteTokenizer:
    """Bytes as tokens."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(tokens).decode(errors="replace")


def shardings():
    """The devices of all processes, whatever their order is by default, laid out in three ways."""
    devices = np.array(sorted(jax.devices(), key=lambda device: (device.process_index, device.id)))
    across = devices.reshape(2, -1).T  # neighbours along the second axis are on different processes
    return {
        "data": NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data")),
        "tensor": NamedSharding(Mesh(across, ("data", "tensor")), PartitionSpec("data")),
        "replicated": NamedSharding(Mesh(devices, ("data",)), PartitionSpec()),
    }


def generated_pairs(count=300, seed=0):
    """Questions with four answers each, of many lengths."""
    rng = np.random.default_rng(seed)

    def text(longest):
        return bytes(rng.integers(97, 123, rng.integers(1, longest)).astype(np.uint8)).decode()

    questions = [text(60) for _ in range(count // 4)]
    return [(question, " " + text(8)) for question in questions for _ in range(4)]


def instances(pairs):
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


def generated_lm(sharding, tokenizer=None, model=None, **arguments):
    model = model or prefix_model(256, hidden=hidden, head=head, max_length=64)
    options = {"batch_size": 32, "max_shapes": 2, "prefix_token_id": 0, **arguments}
    return JaxLM(model, tokenizer or ByteTokenizer(), sharding=sharding, **options)


def real_lm(evals, sharding):
    return JaxLM(
        pretrained=str(evals / "parity" / "tiny-llama"), sharding=sharding, batch_size=64, max_shapes=1
    )


def feed_of(lm, pairs):
    segments = loglikelihood_segments(lm.tokenizer, pairs, max_length=lm.max_length)
    return Feed(lm.policy.plan(segments, lm.sharding.groups), segments, lm.sharding)


def row_digests(feed):
    """For each batch and each row that this process holds, a hash of its tokens, its layout and its reads."""
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
    """Where in each row which token is read; the same whatever groups the rows are in."""
    plan, segments, groups = feed.plan, feed.segments, feed.sharding.groups
    members = plan.batch_segments(batch)
    scored = (np.diff(segments.offsets) - segments.score_starts)[members]
    rows = shape.rows // groups
    counts = np.bincount(plan.rows[members] // rows, scored, groups).astype(int)
    found = {}
    for picks, at, target in zip(*(array.addressable_shards for array in reads), strict=True):
        first = picks.index[0].start or 0
        for row in range(first * rows, (first + len(picks.data)) * rows):
            found[row, picks.device] = []
        for group, count in enumerate(counts[first : first + len(picks.data)]):
            for place, token in zip(
                at.data[group][:count].tolist(), target.data[group][:count].tolist(), strict=True
            ):
                row, column = divmod(int(picks.data[group][place]), shape.length)
                found[(first + group) * rows + row, picks.device].append((column, token))
    return found


def work(options):
    """Batches and scores under three shardings, and what a process sees when the others differ."""
    result = {"process": jax.process_index(), "digests": {}, "scores": {}}
    for name, sharding in shardings().items():
        lm = generated_lm(sharding)
        result["digests"][name] = row_digests(feed_of(lm, generated_pairs()))
        result["scores"][name] = lm.loglikelihood(instances(generated_pairs()))
    write(options, result)


def real(options):
    """The same on real requests and a trained model."""
    pairs = [tuple(pair) for pair in json.loads((options.folder / "pairs.json").read_text())]
    result = {"process": jax.process_index(), "digests": {}, "scores": {}}
    for name, sharding in shardings().items():
        lm = real_lm(options.evals, sharding)
        result["digests"][name] = row_digests(feed_of(lm, pairs))
        result["scores"][name] = lm.loglikelihood(instances(pairs))
    write(options, result)


def disagree(options):
    """Each kind of disagreement in turn, and process 0's requests for all."""
    number, pairs = jax.process_index(), generated_pairs(40)
    other = [*pairs[:7], ("another question", " answer"), *pairs[8:]]
    late = [*pairs[:7], (pairs[7][0] + "x" * 100, f" {min(number, 1)}"), *pairs[8:]]
    sharding = shardings()["data"]
    cases = {
        "request": lambda: generated_lm(sharding).loglikelihood(instances(other if number else pairs)),
        "late": lambda: generated_lm(sharding).loglikelihood(instances(late)),
        "fewer": lambda: generated_lm(sharding).loglikelihood(instances(pairs[:-1] if number else pairs)),
        "type": lambda: (
            generated_lm(sharding).loglikelihood_rolling(instances(pairs))
            if number
            else generated_lm(sharding).loglikelihood(instances(pairs))
        ),
    }
    messages = {}
    for name, case in cases.items():
        try:
            case()
        except HostsDifferError as error:
            messages[name] = str(error)
    lm = generated_lm(sharding, requests_from_first_host=True)
    scores = lm.loglikelihood(instances(generated_pairs(20, seed=9) if number else pairs))
    write(options, {"process": number, "messages": messages, "scores": scores})


def differ(options):
    """Ends because one process was given other work."""
    number, what = jax.process_index(), options.what
    tokenizer = write_tokenizer(options.folder / str(number), bos=not (what == "tokenizer" and number))
    lm = generated_lm(
        shardings()["data"], tokenizer, batch_size=64 if what == "batch size" and number else 32
    )
    lm.loglikelihood(instances(generated_pairs(seed=number if what == "request" else 0)))


def feed(options):
    """Process 0 feeds all batches while the others are stopped, then all score."""
    lm = generated_lm(shardings()[options.what])
    pairs = generated_pairs()
    made = feed_of(lm, pairs)
    lm._agreed("loglikelihood", pairs)
    print("agreed", flush=True)
    if jax.process_index() == 0:
        await_file(options.folder / "stopped")
        for batch in range(len(made.shapes)):
            jax.block_until_ready(made.arrays(batch))
        print(f"fed {len(made.shapes)} batches", flush=True)
    else:
        await_file(options.folder / "fed")
    Scorer(lm.model, lm.sharding, lm.clock).run(made.plan, made.segments)
    print("scored", flush=True)


def fail(options):
    """One process raises in its model function, or is killed, in the middle."""
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
            if mine and what == "kill" and self.seen == 50:
                os.kill(os.getpid(), signal.SIGKILL)

    model = LanguageModel(**{**vars(prefix_model(256, hidden=hidden, head=head)), "hidden": refusing})
    lm = generated_lm(shardings()["tensor"], model=model, max_length=64)
    lm.set_cache_hook(Hook())
    print("begins", flush=True)
    lm.loglikelihood(instances(generated_pairs()))
    print("ended", flush=True)


def write(options, result):
    (options.folder / f"result-{jax.process_index()}.json").write_text(json.dumps(result))


def await_file(path):
    while not path.exists():
        time.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--what")
    parser.add_argument("--evals", type=Path)
    parser.add_argument("--coordinator")
    parser.add_argument("--process-count", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--heartbeat-timeout", type=int, default=60)
    given = parser.parse_args()
    with leaving_at_once():
        Launch(given.coordinator, given.process_count, given.process_id, given.heartbeat_timeout).start()
        globals()[given.task](given)
    sys.stdout.flush()
