"""Runs requests of three types and saves their results in a folder; tests kill it.

python keeping_worker.py FOLDER [--coordinator ... --process-count ... --process-id ...]
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from lm_eval.api.instance import Instance

import joining
from small_model import head, hidden, prefix_model
from small_tokenizer import BOS, write_tokenizer
from windrow.generation.schedule import FREE, Schedule
from windrow.harness import JaxLM
from windrow.scoring import gathering
from windrow.sharding.launch import leaving_at_once

ROWS = 12
COUNT = 120


def requests():
    """Choices, texts and prompts; some prompts are sampled three times."""
    numbers = np.random.default_rng(3)
    texts = [
        numbers.integers(97, 123, 4 + number % 9, np.uint8).tobytes().decode() for number in range(COUNT)
    ]
    kinds = {
        "loglikelihood": [(text, end) for text in texts for end in (" a", " bc")],
        "loglikelihood_rolling": [(text * 7,) for text in texts],
        "generate_until": [
            (text, {"until": ["z"], "max_gen_toks": 4, **options})
            for text in texts[:30]
            for options in [{}, *[{"do_sample": True, "temperature": 5.0}] * 3]
        ],
    }
    return {
        kind: [Instance(kind, {}, each, index) for index, each in enumerate(arguments)]
        for kind, arguments in kinds.items()
    }


def make_lm(folder, devices=None, seen=None, **arguments):
    """A small model; ``seen`` is a file that gets a line when the computation of each batch begins."""

    def slow(params, tokens, positions, segment_ids):
        if seen is not None:
            jax.debug.callback(lambda rows: record_rows(seen, rows), tokens)
        return hidden(params, tokens, positions, segment_ids)

    model = prefix_model(258, max_length=32, hidden=slow, head=head)
    mesh = Mesh(np.array(devices or jax.devices()), ("data",))
    options = {"batch_size": ROWS, "max_shapes": 1, "share": "equal", "pack": False, "mesh": mesh, "seed": 5}
    return JaxLM(model, write_tokenizer(folder), **options | arguments)


def record_rows(seen, tokens):
    """Records the text of each computed row, and makes the devices slower than the host."""
    rows = ["".join(chr(token) for token in row if 0 < token < BOS) for row in tokens.tolist()]
    tell(seen, {"rows": [row for row in rows if row]})
    time.sleep(0.01)


def record_generation(seen):
    """Records the requests of each batch of tokens that is dispatched."""
    asked = Schedule.ask

    def ask(schedule, tokens):
        owners = asked(schedule, tokens)
        tell(seen, {"generated": [owner for owner in owners if owner != FREE]})
        return owners

    Schedule.ask = ask


def tell(seen, record):
    with seen.open("ab", buffering=0) as file:
        file.write(json.dumps(record).encode() + b"\n")


def results_of(lm):
    return {kind: getattr(lm, kind)(instances) for kind, instances in requests().items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    options = joining.parse(parser)
    with leaving_at_once():
        options.launch.start()
        gathering.GATHER_SECONDS = (
            0  # after every batch; the default of several seconds is longer than this whole run
        )
        seen = options.folder / f"seen-{jax.process_index()}.jsonl"
        record_generation(seen)
        lm = make_lm(options.folder / f"tokenizer-{os.getpid()}", seen=seen)
        lm.keep_results(options.folder / "kept")
        results = results_of(lm)
        if jax.process_index() == 0:
            (options.folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
