"""A process that sizes its batches to memory, and reports its peak memory.

python auto_worker.py TASK 'JSON of options'
"""

import gc
import json
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reference_models import GPT2, LLAMA, MAMBA, random_tensors, write
from windrow import BatchPolicy, LanguageModel
from windrow.generation import GenerationDefaults, Generator, Settings
from windrow.generation.logits import RunRules
from windrow.models import load
from windrow.scoring import Clock, Scorer
from windrow.sharding import RowSharding
from windrow.tokens import Segments, TokenReport


def status(field):
    """A field of this process's memory status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def growth(run):
    """The number of bytes by which memory rises during ``run``."""
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    run()
    return status("VmHWM") - before


def random_model(kind, vocab, width, layers=2, max_length=4096):
    """A loaded checkpoint with random parameters."""
    heads = max(1, width // 64)
    config = {
        "llama": {
            **LLAMA, "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": heads, "max_position_embeddings": max_length,
        },
        "gpt2": {**GPT2, "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": max_length},
        "mamba": {**MAMBA, "hidden_size": width, "num_hidden_layers": layers, "state_size": 16},
    }[kind] | {"vocab_size": vocab}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return load(write(Path(folder), config, random_tensors(config)), max_length=max_length)


def plain_model(vocab, width):
    """A model with only ``apply``, which computes the logits of every position."""
    keys = jax.random.split(jax.random.key(0))
    params = [jax.random.normal(keys[0], (vocab, width)), jax.random.normal(keys[1], (width, vocab))]
    return LanguageModel(params, lambda params, tokens, *_: jnp.tanh(params[0][tokens]) @ params[1])


def make_model(options):
    kind, vocab, width = options["model"], options["vocab"], options["width"]
    if kind == "plain":
        return plain_model(vocab, width)
    return random_model(kind, vocab, width, max_length=options.get("max_length", 4096))


def as_segments(lengths, starts, vocab, seed=0):
    """Segments of random tokens with these lengths, each scored from its start."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.random.default_rng(seed).integers(0, vocab, offsets[-1]).astype(np.int32)
    report = TokenReport(len(lengths), len(lengths), len(tokens), 0, 0)
    starts, requests = np.asarray(starts, np.int32), np.arange(len(lengths))
    return Segments(tokens, offsets, starts, requests, len(lengths), np.zeros(0, np.int64), report)


def sharding(options):
    return RowSharding.over(Mesh(np.array(jax.devices()[: options.get("devices", 1)]), ("data",)))


def score(options):
    """Scores segments of one or several lengths, the last few tokens of each or all."""
    longest, scored, shared = options["length"], options.get("scored", 4), options.get("shared", 0)
    rng = np.random.default_rng(1)
    lengths = [longest + 1] * options.get("count", 300)
    if options.get("mixed"):
        lengths += rng.integers(longest // 8, longest, len(lengths)).tolist()
    starts = [max(1, length - scored) if scored else 1 for length in lengths]
    segments = as_segments(lengths, starts, options["vocab"])
    for first in range(0, len(lengths), SIBLINGS):  # share a prefix
        begin, *others = segments.offsets[first : min(first + SIBLINGS, len(lengths))].tolist()
        for other in others:
            segments.tokens[other : other + shared] = segments.tokens[begin : begin + shared]
    scorer = Scorer(make_model(options), sharding(options), Clock())
    few = as_segments([3], [1], options["vocab"])
    scorer.run(scorer.plan(BatchPolicy(), few), few)  # starts threads and loads code
    share = "forks" if shared else False
    policy = BatchPolicy(tokens_per_batch="auto", memory_budget=options["budget"], share=share)
    plan = scorer.plan(policy, segments)
    taken = growth(lambda: scorer.run(plan, segments))
    return scorer.choice | {"taken": taken, "shapes": plan.shapes.tolist()}


SIBLINGS = 5
"""The number of segments that share a prefix, if any do."""


class Digits:
    """A tokenizer for a generator: tokens are written as numbers."""

    eos_token_id = None

    def decode(self, tokens, skip_special_tokens=True):
        return " ".join(map(str, tokens))


def generate(options):
    """Generates texts after prompts of several lengths."""
    rng = np.random.default_rng(1)
    count, longest = options.get("count", 60), options["length"]
    lengths = rng.integers(longest // 2, longest + 1, count)
    lengths[0] = longest
    prompts = as_segments(lengths, np.ones(count), options["vocab"])
    shared = options.get("shared", 0)
    for offset in prompts.offsets[:-1]:
        prompts.tokens[offset : offset + shared] = prompts.tokens[:shared]
    settings = [Settings(options["new"])] * count
    generator = Generator(
        make_model(options), Digits(), sharding(options), Clock(), GenerationDefaults(),
        policy=BatchPolicy(tokens_per_batch="auto", memory_budget=options["budget"], max_shapes=2,
                           share="forks" if shared else False),
    )  # fmt: skip
    few = as_segments([3], [1], options["vocab"])
    generator.run(few, [Settings(2)], lambda *_: None)
    generator._sized_batching(prompts, settings, RunRules(settings, ()))
    made = []
    taken = growth(lambda: generator.run(prompts, settings, lambda index, _: made.append(index)))
    assert sorted(made) == list(range(count))
    return generator.choice | {"taken": taken}


if __name__ == "__main__":
    task, options = sys.argv[1], json.loads(sys.argv[2])
    jax.config.update("jax_num_cpu_devices", options.get("devices", 1))
    print(json.dumps(globals()[task](options)))
