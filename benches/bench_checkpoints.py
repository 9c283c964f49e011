"""Checkpoints: scores them with windrow and transformers, compiles shallow and deep models, and loads them.

    make bench-rivals   # installs torch, transformers and lm_eval in a separate environment
    python benches/bench_checkpoints.py [scoring] [compiling] [loading] [kind=MODEL_TYPE...]

``scoring``: a random checkpoint of every family, scored by lm_eval's own backend and by windrow in float32,
each on the same single core. Processor time is compared, which depends little on the machine's other load.
The second call in a process is timed, so loading and compiling are not included. Results are compared before
any time is printed.

``compiling``: seconds to trace and compile a forward pass of 2 and of 32 layers, whose programs must have the
same number of operations.

``loading``: seconds and peak memory for a checkpoint of 2 GB, as one file and in shards. On CPUs, the
parameters themselves are in host memory: the peak includes them for one file, and excludes them for shards.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from bench_rivals import RIVAL, SMALL, copy_tokenizer, differing, random_llama, run
from bench_scores import in_process, pairs_of, run_parts

SIZES = {
    "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 1024, "pad_token_id": None,
}  # fmt: skip
EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
FIELDS = {
    "gemma2": {"head_dim": 64, "sliding_window": 64},
    "gemma3_text": {"head_dim": 64, "sliding_window": 64},
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS | {"moe_intermediate_size": 512, "head_dim": 64},
    "olmo3": {"sliding_window": 64},
    "mistral": {"sliding_window": 64},
    "mamba2": {"num_heads": 16, "head_dim": 64, "n_groups": 1},
    "xlstm": {"num_heads": 4},
}
"""Other fields that a family needs, or that are very large by default."""

LAYERS = (2, 32)
BATCH_SIZE = 32
DOCUMENTS = 40
TURNS = 3
LARGE = {"width": 2048, "inner": 5632, "layers": 10}
"""A Llama of 2 GB in float32."""

SHARDS = 4


def config_of(kind, **fields):
    vocab = json.loads((SMALL / "config.json").read_text())["vocab_size"]
    return {"model_type": kind, "vocab_size": vocab} | SIZES | FIELDS.get(kind, {}) | fields


def kinds():
    """The model types given on the command line; all by default."""
    from windrow.models.loading import FAMILIES

    asked = {each.removeprefix("kind=") for each in sys.argv if each.startswith("kind=")}
    return sorted(asked) or list(FAMILIES)


def child(job, out):
    """One measurement, or one checkpoint, in a separate process."""
    job = json.loads(Path(job).read_text())
    Path(out).write_text(json.dumps(JOBS[job.pop("job")](**job)))


# Scoring


def make(folder, config):
    """A checkpoint with random weights, saved by transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    folder = Path(folder)
    (folder / "config.json").write_text(json.dumps(config))
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    copy_tokenizer(folder)


def scoring():
    if not RIVAL.exists():
        return print(f"skipped: needs torch, transformers and lm_eval in {RIVAL.parents[1]}")
    pairs = pairs_of(["local_arc_easy"], 0, DOCUMENTS)
    print(f"{len(pairs)} requests, the second call in a process; asked: not slower than transformers")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for kind in kinds():
        with tempfile.TemporaryDirectory() as folder:
            in_process(__file__, {"job": "make", "folder": folder, "config": config_of(kind)}, RIVAL)
            sides = {BATCH_SIZE: [], None: []}
            for _ in range(TURNS):
                for size, runs in sides.items():
                    runs.append(run(size, "loglikelihood", pairs, Path(folder), again=True))
        theirs, ours = (min(runs, key=lambda each: each["processor"]) for runs in sides.values())
        assert not differing("loglikelihood", ours["results"], theirs["results"]), kind
        seconds = [each["processor"] for each in (theirs, ours)]
        times = f"transformers {seconds[0]:6.2f} s, windrow {seconds[1]:6.2f} s of processor time"
        print(f"  {kind:12} {times}: {seconds[0] / seconds[1]:5.2f} times as fast", flush=True)
    return None


# Compiling


def compiled(kind, layers):
    """The least seconds of several to trace and compile a forward pass, and its number of operations."""
    import jax
    import jax.numpy as jnp

    from windrow.models.config import Fields
    from windrow.models.loading import FAMILIES

    fields = Fields(config_of(kind, num_hidden_layers=layers), Path("config.json"))
    config = FAMILIES[kind].module.read_config(fields)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape(layers), jnp.float32), config.leaves())
    model = config.language_model(params, 1024)
    batch = [jax.ShapeDtypeStruct((8, 128), jnp.int32)] * 3
    found = []
    for _ in range(TURNS):
        jax.clear_caches()
        begin = perf_counter()
        lowered = jax.jit(model.hidden).lower(params, *batch)
        lowered.compile()
        found.append(perf_counter() - begin)
    return {"seconds": min(found), "operations": lowered.as_text().count(" = ")}


def compiling():
    print(f"seconds to compile {LAYERS[0]} and {LAYERS[1]} layers; asked: no growth")
    for kind in kinds():
        few, many = (
            in_process(__file__, {"job": "compile", "kind": kind, "layers": layers}) for layers in LAYERS
        )
        assert few["operations"] == many["operations"], f"the program of {kind} grows with its layers"
        seconds = [each["seconds"] for each in (few, many)]
        print(f"  {kind:12} {seconds[0]:6.2f} {seconds[1]:6.2f}  {seconds[1] / seconds[0]:5.2f}", flush=True)


# Loading


def loaded(folder):
    """Seconds to load a checkpoint, the parameters' bytes, and the peak growth of memory in bytes."""
    import jax

    from windrow.models import load

    jax.block_until_ready(jax.numpy.zeros(1) + 1)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    begin = perf_counter()
    params = jax.block_until_ready(load(folder).params)
    seconds = perf_counter() - begin
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {"seconds": seconds, "params": size, "peak": memory("VmHWM") - before}


def read(folder):
    """Seconds to read the files of a checkpoint into new memory."""
    begin = perf_counter()
    for path in Path(folder).glob("*.safetensors"):
        buffer = memoryview(np.empty(path.stat().st_size, np.uint8))
        with path.open("rb", buffering=0) as file:
            while buffer:
                buffer = buffer[file.readinto(buffer) :]
    return {"seconds": perf_counter() - begin}


def memory(name):
    """A field of this process's memory status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def in_shards(folder, target):
    """The same checkpoint with its tensors in several files."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    place = {name: f"model-{at * SHARDS // len(names)}.safetensors" for at, name in enumerate(names)}
    for file in set(place.values()):
        save_file({name: tensors[name] for name in names if place[name] == file}, target / file)
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    return target


def loading():
    with tempfile.TemporaryDirectory() as scratch:
        whole = random_llama(Path(scratch) / "whole", **LARGE)
        for folder in (whole, in_shards(whole, Path(scratch) / "shards")):
            shard = max(path.stat().st_size for path in folder.glob("*.safetensors"))
            turns = [[in_process(__file__, {"job": job, "folder": str(folder)}) for job in ("load", "read")]
                     for _ in range(TURNS)]  # fmt: skip
            load, plain = (min(each, key=lambda one: one["seconds"]) for each in zip(*turns, strict=True))
            before = 0 if folder == whole else load["params"]
            print(f"loading {load['params'] / 1e9:.2f} GB, {folder.name}: {load['seconds']:.2f} s")
            ratio = load["seconds"] / plain["seconds"]
            print(f"  {ratio:.2f} times as long as reading the files, {plain['seconds']:.2f} s (asked: 1.5)")
            peak = (load["peak"] - before) / shard
            what = "peak" if folder == whole else "peak without the parameters"
            print(f"  {what} {peak:.2f} times the largest file (asked: 1.3)", flush=True)


JOBS = {"make": make, "compile": compiled, "load": loaded, "read": read}
PARTS = {part.__name__: part for part in (scoring, compiling, loading)}

if __name__ == "__main__":
    run_parts(PARTS, child)
