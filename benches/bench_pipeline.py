"""Compares ``lmeval_preprocessing_pipeline`` with a chain of datasets that pad element by element.

    python benches/bench_pipeline.py [--devices N] [--repeats N]

Both yield the same 594 batches of the local tasks' 38,003 requests: GPT-2 tokens, 64 rows, multiples of 128.
This is asserted before anything is timed. Plans and tokens are made in advance; the transfer to the device is
included. The chain consists of the reference's own datasets: sort, fill the last batch, remap, pad each
batch, stack.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from local_suite import EVALS, read_local_suite
from windrow.lmeval_pipeline import (
    CompleteLLMIndexedBatch,
    LLMIndexedBatch,
    MultiHostDataLoadIterator,
    MultihostSortedRemapDataset,
    PadBatchDataset,
    PadSequenceInBatchDataset,
    SortedDataset,
    empty_llm_indexed_sample,
    lmeval_preprocessing_pipeline,
    token_length,
)

ROWS = 64


def element(planned, number: int) -> dict:
    """One request as an element of the reference datasets."""
    tokens, offsets, starts, requests = planned.sequences
    sequence = tokens[offsets[number] : offsets[number + 1]]
    real = len(sequence) - 1
    return CompleteLLMIndexedBatch.map(
        {
            "inputs": sequence[None, :-1],
            "targets": sequence[None, 1:],
            "inputs_segmentation": np.ones((1, real), np.int32),
            "targets_segmentation": (np.arange(1, real + 1) >= starts[number]).astype(np.int32)[None],
            "idx": requests[number : number + 1].astype(np.int32),
        }
    )


def chain(planned):
    """The same batches from the datasets that pad element by element."""
    import grain

    elements = grain.MapDataset.source(
        [element(planned, number) for number in range(len(planned.plan.lengths))]
    )
    ordered = SortedDataset(elements, token_length, reverse=True)
    filled = PadBatchDataset(ordered, ROWS, 0, empty_llm_indexed_sample())
    remapped = MultihostSortedRemapDataset(filled, ROWS, 1)
    padded = PadSequenceInBatchDataset(remapped, ROWS, 128)
    return padded.batch(ROWS, batch_fn=stack)


def stack(elements: list[dict]) -> LLMIndexedBatch:
    return LLMIndexedBatch(
        **{name: np.concatenate([each[name] for each in elements]) for name in elements[0]}
    )


def real_part(batch: LLMIndexedBatch) -> LLMIndexedBatch:
    """The batch without positions in padding, which are never read and differ between the two."""
    import dataclasses

    mask = np.asarray(batch.inputs_segmentation) > 0
    host = jax.tree.map(np.asarray, batch)
    return dataclasses.replace(
        host, inputs_position=host.inputs_position * mask, targets_position=host.targets_position * mask
    )


def best(repeats: int, *runs: Callable[[], None]) -> list[float]:
    """The least seconds of each side; they take turns."""
    seconds = [float("inf")] * len(runs)
    for _ in range(repeats):
        for at, run in enumerate(runs):
            begin = time.perf_counter()
            run()
            seconds[at] = min(seconds[at], time.perf_counter() - begin)
    return seconds


def drain(batches: Iterable) -> None:
    """Iterates over all batches; each is on the device before the next is requested."""
    count = 0
    for batch in batches:
        jax.block_until_ready(batch)
        count += 1
    assert count == 594


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=1, help="CPU devices that rows are split over")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if not EVALS.is_dir():
        print(f"skipped: needs the evaluation material in {EVALS}")
        return
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    mesh = jax.make_mesh((arguments.devices,), ("data",))
    requests = read_local_suite()

    def pipeline(**options) -> MultiHostDataLoadIterator:
        tokenizer = str(EVALS / "parity" / "tiny-gpt2")
        return lmeval_preprocessing_pipeline(0, 1, mesh, requests, ROWS, tokenizer, **options)

    begin = time.perf_counter()
    alone = pipeline(worker_count=0)
    made = time.perf_counter() - begin
    thread, process = pipeline(use_thread_prefetch=True), pipeline()
    planned = alone.dataloader
    rival = MultiHostDataLoadIterator(chain(planned), mesh)
    assert len(rival) == len(alone) == 594
    for one, other in zip(alone, rival, strict=True):
        assert real_part(one) == real_part(other)

    def collate() -> None:
        for number in range(len(planned)):
            planned[number]

    print(f"{len(requests):,} requests, {arguments.devices} device(s); seconds, least of {arguments.repeats}")
    print(planned.plan)
    print(f"{'texts to plan':44}{made:8.3f}")
    runs = (lambda: drain(alone), lambda: drain(thread), collate, lambda: drain(rival))
    none, threads, collation, rivals = best(arguments.repeats, *runs)
    (processes,) = best(2, lambda: drain(process))
    rows = [
        ("without workers", none, 0.45),
        ("a prefetching thread", threads, 0.45),
        ("the default worker process, its start included", processes, 3.5),
        ("collation alone", collation, 0.05),
        ("the chain that pads element by element", rivals, None),
    ]
    for name, seconds, asked in rows:
        bound = "" if asked is None else f"   at most {asked}"
        print(f"{name:48}{seconds:8.3f}{bound}")
    print(f"without workers, this takes {none / rivals:.3f} of the chain's time")


if __name__ == "__main__":
    main()
