"""Compares whole runs with lm_eval's own Hugging Face backend: same requests, weights, dtype and cores.

A run loads the model, tokenizes, compiles what it needs and computes every result; only imports are not
included. Each run is its own process with an empty compilation cache, and the two sides take turns; one more
run finds its programs in the cache. lm_eval's backend runs at the best of three batch sizes. Results are
compared before any time is printed.

    make bench-rivals   # installs torch, transformers and lm_eval in an environment of their own, runs all
    python benches/bench_rivals.py [suite] [mmlu] [wikitext] [gsm8k] [--model NAME] [--turns N]

``NAME`` is a model of the evaluation material, or ``random-768``: a Llama with random weights, 12 layers and
width 768, large enough for a forward pass to outweigh its dispatch.
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
BATCH_SIZES = (8, 32, 64)
SUITES = {
    "suite": (["local_suite"], 0, 400, 2),
    "mmlu": ([f"local_mmlu_{subject}" for subject in SUBJECTS], 5, None, 6),
    "wikitext": (["local_wikitext2"], 0, None, 1.3),
    "gsm8k": (["local_gsm8k"], 5, 50, 4),
}
"""Tasks, examples, documents of each task, and how many times as fast windrow should be."""


def child(job, out):
    """One run, by lm_eval's backend if a batch size is given."""
    job = json.loads(Path(job).read_text())
    from lm_eval.api.instance import Instance

    kind = job["kind"]
    requests = [Instance(kind, {}, tuple(args), index) for index, args in enumerate(job["requests"])]
    if job["batch_size"]:
        from lm_eval.models.huggingface import HFLM as Model  # noqa: N811

        settings = {"device": "cpu", "dtype": "float32", "batch_size": job["batch_size"]}
    else:
        from windrow import JaxLM as Model

        settings = {}
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


def run(batch_size, kind, requests, folder, *, again=False, **variables):
    """Results, seconds and figures of one run, windrow's if there is no batch size.

    ``again`` times a second call in the same process, with everything loaded and compiled, and gives its
    seconds of processor time too.
    """
    job = {"kind": kind, "requests": requests, "folder": str(folder), "batch_size": batch_size}
    job["again"] = again
    variables |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    return in_process(__file__, job, RIVAL if batch_size else sys.executable, **variables)


def differing(kind, ours, theirs):
    """How many results differ: texts and flags at all, values by more than 1e-3 + 1e-5 of them."""
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


def compare(name, folder, turns):
    """Prints one suite's table for one model."""
    tasks, examples, limit, asked = SUITES[name]
    found = instances(tasks, examples, limit)
    kind, requests = found[0].request_type, [instance.args for instance in found]
    best = {size: run(size, kind, requests, folder) for size in BATCH_SIZES}
    size = min(best, key=lambda size: best[size]["seconds"])
    sides = {size: [best[size]], None: []}
    for turn in range(turns):
        sides[None].append(run(None, kind, requests, folder))
        if turn + 1 < turns:
            sides[size].append(run(size, kind, requests, folder))
    with tempfile.TemporaryDirectory() as cache:
        keep = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        warm = [run(None, kind, requests, folder, **keep) for _ in range(2)][1]
    theirs, ours = (min(runs, key=lambda each: each["seconds"]) for runs in sides.values())
    differ = differing(kind, ours["results"], theirs["results"])
    print(f"{name} on {folder.name}: {len(requests):,} requests, {differ} results differ")
    sizes = ", ".join(f"{size}: {each['seconds']:.1f}" for size, each in best.items())
    print(f"  lm_eval's backend {theirs['seconds']:7.1f} s  (by batch size, {sizes})")
    print(f"  windrow           {ours['seconds']:7.1f} s  {ours['figures']}")
    cold, kept = (theirs["seconds"] / each["seconds"] for each in (ours, warm))
    print(f"  {cold:.2f} times as fast (asked: at least {asked}), {kept:.2f} with kept programs", flush=True)


def random_llama(folder, width=768, inner=2048, layers=12):
    """A Llama with random weights, and the tokenizer of the small one."""
    from safetensors.numpy import save_file

    config = json.loads((SMALL / "config.json").read_text())
    config |= {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    config |= {"num_attention_heads": width // 64, "num_key_value_heads": width // 64, "head_dim": 64}
    vocab, rng = config["vocab_size"], np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, width)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {at + f"self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
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
    copy_tokenizer(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def copy_tokenizer(folder):
    for path in SMALL.iterdir():
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = options.model == "random-768"
        folder = random_llama(Path(scratch) / options.model) if made else EVALS / "parity" / options.model
        for name in options.suites:
            compare(name, folder, options.turns)
    return None


if __name__ == "__main__":
    main()
