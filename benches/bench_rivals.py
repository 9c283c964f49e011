"""Compares whole runs with lm_eval's own Hugging Face backend: same requests, weights, dtype and cores.

A run loads the model, tokenizes, compiles what it needs and computes every result; only imports are excluded,
including those that are deferred until a model is loaded. "Process" is the whole process with imports. Each
run is its own process with an empty compilation cache, and the two sides take turns; one more run finds its
programs in the cache. lm_eval's backend runs at the best of three batch sizes. Results are compared before
any time is printed.

    make bench-rivals   # installs torch, transformers and lm_eval in a separate environment, and runs all
    python benches/bench_rivals.py [suite] [mmlu] [wikitext] [gsm8k] [--model NAME] [--turns N]
                                   [--device cuda] [--dtype bfloat16]

``NAME`` is a model of the evaluation material, or a Llama with random weights that is large enough for a
forward pass to cost more than its dispatch: ``random-768`` has 12 layers of width 768, ``random-2048`` is
like Llama 3.2 1B with GPT-2's vocabulary. On a GPU, ``WINDROW_RIVAL_PYTHON`` names one environment for both.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from bench_scores import EVALS, SUBJECTS, in_process, instances

ROOT = Path(__file__).resolve().parents[1]
RIVAL = Path(os.environ.get("WINDROW_RIVAL_PYTHON", ROOT / ".venv-parity" / "bin" / "python"))
SMALL = EVALS / "parity" / "tiny-llama_long"
BATCH_SIZES = {"cpu": (8, 32, 64), "cuda": (32, 128, 512)}
RANDOM = {
    "random-768": {},
    "random-2048": {
        "width": 2048, "inner": 8192, "layers": 16, "kv_heads": 8, "max_position_embeddings": 2048,
        "tokenizer": EVALS / "parity" / "tiny-gpt2", "vocab_size": 50257,
        "bos_token_id": 50256, "eos_token_id": 50256,
    },
}  # fmt: skip
SUITES = {
    "suite": (["local_suite"], 0, 400, 2),
    "mmlu": ([f"local_mmlu_{subject}" for subject in SUBJECTS], 5, None, 6),
    "wikitext": (["local_wikitext2"], 0, None, 1.3),
    "gsm8k": (["local_gsm8k"], 5, 50, 4),
}
"""Tasks, examples, documents of each task, and the speedup that windrow should have."""


def child(job, out):
    """One run, of lm_eval's backend if a batch size is given, else of windrow."""
    job = json.loads(Path(job).read_text())
    from lm_eval.api.instance import Instance

    kind = job["kind"]
    requests = [Instance(kind, {}, tuple(args), index) for index, args in enumerate(job["requests"])]
    if job["batch_size"]:
        import transformers
        from lm_eval.models.huggingface import HFLM as Model  # noqa: N811

        config = json.loads(Path(job["folder"], "config.json").read_text())
        for architecture in config.get("architectures", ()):
            getattr(transformers, architecture)
        settings = {"device": job["device"], "dtype": job["dtype"], "batch_size": job["batch_size"]}
    else:
        import windrow.generation
        import windrow.models  # noqa: F401
        from windrow import JaxLM as Model

        settings = {"dtype": job["dtype"]}
    begin = perf_counter()
    lm = Model(pretrained=job["folder"], **settings)
    results = getattr(lm, kind)(requests)
    made = {"results": results, "seconds": perf_counter() - begin}
    if job["again"]:
        begin, used = perf_counter(), process_time()
        getattr(lm, kind)(requests)
        made |= {"seconds": perf_counter() - begin, "processor": process_time() - used}
    if not job["batch_size"]:
        report = lm.report()
        made["figures"] = {name: report[name] for name in ("seconds", "device_tokens", "shapes")}
    Path(out).write_text(json.dumps(made))


def run(
    batch_size, kind, requests, folder, *, device="cpu", dtype="float32", again=False, keep=None, **variables
):
    """Results, seconds and figures of one run, of windrow unless a batch size is given.

    ``again`` times a second call in the same process, with everything loaded and compiled, and also returns
    its processor time. ``keep`` is a folder for compiled programs.
    """
    job = {"kind": kind, "requests": requests, "folder": str(folder), "batch_size": batch_size}
    job |= {"device": device, "dtype": dtype, "again": again}
    variables |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    if keep is not None:
        variables |= {
            "JAX_COMPILATION_CACHE_DIR": keep,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    begin = perf_counter()
    made = in_process(__file__, job, RIVAL if batch_size else sys.executable, **variables)
    return made | {"process": perf_counter() - begin}


def differing(kind, ours, theirs):
    """The number of different results: texts or flags, or values that differ by over 1e-3 + 1e-5 of them."""
    if kind == "generate_until":
        return sum(one != other for one, other in zip(ours, theirs, strict=True))
    pairs = [
        (one, other) if kind == "loglikelihood_rolling" else (one[0], other[0])
        for one, other in zip(ours, theirs, strict=True)
    ]
    far = [abs(one - other) > 1e-3 + 1e-5 * abs(other) for one, other in pairs]
    if kind == "loglikelihood":
        far = [gap or one[1] != other[1] for gap, one, other in zip(far, ours, theirs, strict=True)]
    return sum(far)


def distance(kind, ours, theirs):
    """The average difference between values, or the fraction of texts that differ."""
    if kind == "loglikelihood":
        ours, theirs = ([value for value, _ in side] for side in (ours, theirs))
    if kind == "generate_until":
        return differing(kind, ours, theirs) / len(ours)
    return float(np.abs(np.subtract(ours, theirs)).mean())


def compare(name, folder, turns, exact, **where):
    """Prints one suite's table for one model.

    ``exact`` receives the results of lm_eval's backend in the first dtype; both sides are compared with them.
    """
    tasks, examples, limit, asked = SUITES[name]
    found = instances(tasks, examples, limit)
    kind, requests = found[0].request_type, [instance.args for instance in found]
    best = at_batch_sizes(kind, requests, folder, where)
    size = min(best, key=lambda size: best[size]["seconds"])
    sides = {size: [best[size]], None: []}
    for turn in range(turns):
        with tempfile.TemporaryDirectory() as keep:
            sides[None].append(run(None, kind, requests, folder, keep=keep, **where))
            if turn + 1 < turns:
                sides[size].append(run(size, kind, requests, folder, **where))
            else:
                kept = run(None, kind, requests, folder, keep=keep, **where)
    theirs, ours = (min(runs, key=lambda each: each["seconds"]) for runs in sides.values())
    differ = differing(kind, ours["results"], theirs["results"])
    print(f"{name} on {folder.name}, {where}: {len(requests):,} requests, {differ} results differ")
    exact = exact.setdefault(name, theirs["results"])
    far = {
        label: distance(kind, exact, each["results"])
        for label, each in (("lm_eval", theirs), ("windrow", ours))
    }
    print(f"  mean difference from lm_eval's results in the first dtype: {far}")
    sizes = ", ".join(f"{size}: {each['seconds']:.1f}" for size, each in best.items())
    took = f"{theirs['seconds']:6.1f} s, process {theirs['process']:.1f} s"
    print(f"  lm_eval's backend      {took}  (by batch size, {sizes})")
    for label, each in (("", ours), (", programs kept", kept)):
        times = f"{theirs['seconds'] / each['seconds']:.2f} times as fast"
        print(f"  windrow{label:15} {each['seconds']:6.1f} s, process {each['process']:.1f} s, {times}")
        print(f"    {each['figures']}")
    print(f"  asked: at least {asked} times as fast", flush=True)


def at_batch_sizes(kind, requests, folder, where):
    """Runs of lm_eval's backend with each batch size that fits in memory."""
    found = {}
    for size in BATCH_SIZES[where["device"]]:
        try:
            found[size] = run(size, kind, requests, folder, **where)
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
    return found


def random_llama(folder, width=768, inner=2048, layers=12, kv_heads=None, tokenizer=SMALL, **settings):
    """A Llama with random weights in float32, heads of 64, and another model's tokenizer."""
    from safetensors.numpy import save_file

    heads = width // 64
    kv_heads = kv_heads or heads
    config = json.loads((SMALL / "config.json").read_text()) | settings
    config |= {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    config |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": 64}
    vocab, rng = config["vocab_size"], np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, width)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {at + f"self_attn.{name}_proj.weight": (width, width) for name in "qo"}
        shapes |= {at + f"self_attn.{name}_proj.weight": (64 * kv_heads, width) for name in "kv"}
        shapes |= {at + f"mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes[at + "mlp.down_proj.weight"] = (width, inner)
        shapes |= {at + f"{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    tensors = {
        name: np.ones(shape, np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape, np.float32) * 0.02)
        for name, shape in shapes.items()
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    copy_tokenizer(folder, tokenizer)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def copy_tokenizer(folder, source=SMALL):
    for path in source.iterdir():
        if "token" in path.name or path.name == "generation_config.json":
            (folder / path.name).write_bytes(path.read_bytes())


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    if not EVALS.is_dir():
        return print(f"skipped: needs the evaluation material in {EVALS}")
    if not RIVAL.exists():
        return print(
            f"skipped: needs torch, transformers and lm_eval in {RIVAL.parents[1]}; run make bench-rivals"
        )
    parser = argparse.ArgumentParser()
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], default=list(SUITES))
    parser.add_argument("--model", default="tiny-llama_long")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=BATCH_SIZES, default="cpu")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = RANDOM.get(options.model)
        folder = EVALS / "parity" / options.model
        if made is not None:
            folder = random_llama(Path(scratch) / options.model, **made)
        exact = {}
        for dtype in options.dtype:
            for name in options.suites:
                compare(name, folder, options.turns, exact, device=options.device, dtype=dtype)
    return None


if __name__ == "__main__":
    main()
