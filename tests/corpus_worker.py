"""One process of a run over a small corpus; tests kill it.

python corpus_worker.py FOLDER INPUT [--devices N] [--coordinator ... --process-count ... --process-id ...]
"""

import argparse
import os
from pathlib import Path

import jax

import joining
from small_model import head, hidden, prefix_model
from small_tokenizer import write_tokenizer
from windrow import BatchPolicy
from windrow.corpus import score_stream
from windrow.scoring import Scorer
from windrow.sharding.launch import leaving_at_once

WINDOW = 20
POLICY = BatchPolicy(tokens_per_batch=256, max_shapes=2, share="equal", pack=False)


def model():
    return prefix_model(258, hidden=hidden, head=head, max_length=32)


def record_windows(folder):
    """Appends a byte to a file for each computed window."""
    run_parts = Scorer.run_parts

    def counted(*arguments):
        scores = run_parts(*arguments)
        with (folder / f"computed-{os.getpid()}").open("ab", buffering=0) as file:
            file.write(b".")
        return scores

    Scorer.run_parts = counted


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("input")
    options = joining.parse(parser)
    record_windows(options.folder.parent)
    tokenizer = write_tokenizer(options.folder.parent / f"tokenizer-{os.getpid()}")
    with leaving_at_once():
        options.launch.start()
        print(f"{jax.local_device_count()} devices", flush=True)
        score_stream(
            model(), tokenizer, options.input, options.folder, window=WINDOW, policy=POLICY, progress=False
        )
    print("complete", flush=True)


if __name__ == "__main__":
    main()
