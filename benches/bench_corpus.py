"""Compares scoring a corpus with a trivial model with only reading and tokenizing it.

    python benches/bench_corpus.py [--documents N]

The documents are generated as JSON lines, with 2 to 2,000 tokens and a heavy tail. Both sides read the next
window in a thread while the texts of the current one are encoded on every core; scoring does this in a
separate process. The benchmark asserts that every document is scored with the right number of tokens, that
nothing compiles after the first window, and that ten times as many documents need at most a tenth more
memory. Each measurement runs in its own process, so that its peak memory can be measured; the peak of the
reading process is added. Time is measured from the end of the first window, when all programs are compiled.

The programs that pick logits and add up log-probabilities run on the device, which here shares the host's
cores. They are therefore timed separately: after scoring, each runs again as often as before, with arrays
already in place. ``host`` is the rate without them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from shutil import rmtree

import jax
import jax.numpy as jnp
import numpy as np

DOCUMENTS = 1_000_000
FEWER = 10
"""Memory is compared with that for a tenth of the documents. Below 200,000, a tenth is only one window."""

TURNS = 3
"""The sides take turns, and the least seconds of each count, because clock rates of shared machines vary."""

WINDOW = 10_000
VOCABULARY = 512
POLICY = {"tokens_per_batch": 16_384, "share": False, "pack": True}
WORDS = 500


def words():
    """Made-up words, most of them short."""
    random = np.random.default_rng(0)
    return ["".join(map(chr, random.integers(97, 123, random.integers(2, 9)))) for _ in range(WORDS)]


def write_tokenizer(folder: Path) -> None:
    """Trains a byte-level BPE on the words, with all bytes, which windrow encodes in Rust."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(words())] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"}))


def write_corpus(path: Path, count: int) -> None:
    """Documents whose word counts are log-normal, from 1 to 560."""
    random = np.random.default_rng(1)
    text = " ".join(random.choice(words(), 200_000).tolist())
    starts = np.flatnonzero(np.frombuffer(text.encode(), np.uint8) == ord(" ")) + 1
    lengths = random.lognormal(2.0, 1.3, count).clip(1, 560).astype(np.int64)
    first = random.integers(0, len(starts) - 700, count)
    begin, end = starts[first].tolist(), (starts[first + lengths] - 1).tolist()
    with path.open("w") as file:
        for number in range(count):
            file.write(f'{{"id": {number}, "text": "{text[begin[number] : end[number]]}"}}\n')


class Since:
    """Counts tokens and seconds from the end of the first window."""

    def __init__(self) -> None:
        self.tokens, self.first = 0, None

    def window(self, tokens: int) -> None:
        """Counts a window; the first one starts the clocks."""
        if self.first is not None:
            self.tokens += tokens
            return
        self.first = tokens
        self._clocks = time.perf_counter(), processor_seconds()

    def figures(self) -> dict:
        """The number of all tokens, of those after the first window, and the seconds that these took."""
        seconds, cpu = (
            clock() - start
            for clock, start in zip((time.perf_counter, processor_seconds), self._clocks, strict=True)
        )
        return {"total": self.tokens + self.first, "tokens": self.tokens, "seconds": seconds, "cpu": cpu}


def processor_seconds() -> float:
    """Processor time of this process and its children, including those that are still running."""
    times, ticks = os.times(), os.sysconf("SC_CLK_TCK")
    seconds = time.process_time() + times.children_user + times.children_system
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def read(folder: Path, corpus: Path) -> dict:
    """Reads and tokenizes every document."""
    from windrow.corpus.documents import Columns, read_documents, segments_of
    from windrow.corpus.source import source_of
    from windrow.corpus.windows import one_ahead
    from windrow.tokens import load_tokenizer

    tokenizer, columns, since = load_tokenizer(folder), Columns(id="id"), Since()
    with closing(source_of(corpus, columns.needed).open(0)) as rows:
        found = (read_documents(columns, *placed) for placed in iter(lambda: rows.take(WINDOW), ([], [])))
        with one_ahead(found) as windows:
            for documents in windows:
                segments = segments_of(documents, "text", tokenizer, 2048)
                since.window(int((np.diff(segments.offsets) - segments.score_starts).sum()))
    return since.figures()


class Programs:
    """Records the programs that run, so that they can run again."""

    def __init__(self) -> None:
        from windrow.scoring.feed import Feed

        self.counts, self.last, dispatch = Counter(), {}, Feed.dispatch

        def counted(feed, program, params, batch, arrays):
            self.counts[program] += 1
            self.last[program] = params, *arrays
            return dispatch(feed, program, params, batch, arrays)

        Feed.dispatch = counted

    def cpu_seconds(self) -> float:
        """The cost of all runs since the first window, measured with all arrays in place."""
        start = time.process_time()
        for program, count in self.counts.items():
            for _ in range(count):
                jax.block_until_ready(program(*self.last[program]))
        return time.process_time() - start


def score(folder: Path, corpus: Path) -> dict:
    """Scores every document with a model whose logits are all zero."""
    import windrow
    from windrow.corpus.folder import Folder

    programs = Programs()
    model = windrow.LanguageModel(
        jnp.zeros(1),
        lambda _, tokens, *__: jnp.zeros((*tokens.shape, VOCABULARY)),
        max_length=2048,
        hidden=lambda _, tokens, *__: jnp.zeros((*tokens.shape, 1)),
        head=lambda _, picked: jnp.zeros((picked.shape[0], VOCABULARY)),
    )
    since, late, add = Since(), [], Folder.add

    def added(*arguments):
        record = add(*arguments)
        if since.first is None:
            programs.counts.clear()
        since.window(record["tokens"])
        return record

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration" and since.first is not None:
            late.append(event)

    Folder.add = added
    jax.monitoring.register_event_duration_secs_listener(listen)
    report = windrow.score_stream(
        model, folder, corpus, folder / "out", id_column="id", window=WINDOW, progress=False,
        policy=windrow.BatchPolicy(**POLICY),
    )  # fmt: skip
    figures, peak = since.figures(), peak_mib()
    assert not late, f"{len(late)} compilations after the first window"
    assert report.is_complete
    assert abs(report.log_likelihood + report.tokens * np.log(VOCABULARY)) < 1e-4 * report.tokens
    host = figures["cpu"] - programs.cpu_seconds()
    return {**figures, "documents": report.documents, "host": host, "mib": peak}


def peak_mib() -> float:
    """The peak memory of this process plus the largest peak of a child process."""
    sides = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(resource.getrusage(side).ru_maxrss for side in sides) / 1024


def measured(what: str, folder: Path, corpus: Path) -> dict:
    command = [sys.executable, __file__, "--measure", what, str(folder), str(corpus)]
    # Memory must not depend on what is cached.
    fresh = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=fresh)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(folder: Path, corpus: Path) -> list[dict]:
    """For reading and scoring, the least time on each clock and the most memory."""
    runs = {"read": [], "score": []}
    for _ in range(TURNS):
        for what, found in runs.items():
            found.append(measured(what, folder, corpus))
        rmtree(folder / "out")
    most = {"mib": max(run["mib"] for run in runs["score"])}
    clocks = ("seconds", "cpu", "host")
    return [
        found[0] | {clock: min(run[clock] for run in found) for clock in clocks if clock in found[0]} | most
        for found in runs.values()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, folder, corpus = options.measure
        figures = {"read": read, "score": score}[what](Path(folder), Path(corpus))
        print(json.dumps(figures))
        return
    print(
        "documents    tokens         "
        + " ".join(f"{name:>33}" for name in ("seconds", "CPU seconds", "host"))
    )
    peaks = []
    for count in (options.documents // FEWER, options.documents):
        with tempfile.TemporaryDirectory() as name:
            folder, corpus = Path(name), Path(name) / "corpus.jsonl"
            write_tokenizer(folder)
            write_corpus(corpus, count)
            alone, scored = in_turns(folder, corpus)
        assert (scored["documents"], scored["total"]) == (count, alone["total"])
        line = f"{count:<12,} {alone['total']:<12,}  "
        for clock, other in (("seconds", "seconds"), ("cpu", "cpu"), ("cpu", "host")):
            rates = alone["tokens"] / alone[clock], scored["tokens"] / scored[other]
            line += f" {rates[0]:>11,.0f} {rates[1]:>11,.0f}   {rates[1] / rates[0]:>6.2f}"
        peaks.append(scored["mib"])
        print(f"{line}   {scored['mib']:,.0f} MiB", flush=True)
    assert peaks[1] <= 1.1 * peaks[0], (
        f"{FEWER} times the documents took {peaks[1] / peaks[0]:.2f} times the memory"
    )


if __name__ == "__main__":
    main()
