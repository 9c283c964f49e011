"""Beside the lm_eval adapters of Levanter and EasyDeL: the same weights, requests, float32 and cores.

Each run is a process of its own in the library's environment: its adapter on its own Llama, windrow on that
same Llama, and windrow on its bundled one. Two small Llamas score requests that lm_eval's own Hugging Face
backend has scored: one without examples and with 256 positions, one few-shot and with 1,024. How many results
differ from its is counted before any time is printed. Times include compiling, but not imports and loading.
The adapters run at each of three batch sizes, windrow as often, and the best run counts.

    WINDROW_LEVANTER_PYTHON=... WINDROW_EASYDEL_PYTHON=... python benches/bench_adapters.py

The variables name the Python of an environment with windrow and what examples/libraries/levanter_llama.py or
easydel_llama.py lists; a side without one is skipped.
"""

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from time import perf_counter

from bench_rivals import differing
from bench_scores import EVALS, in_process

ROOT = Path(__file__).resolve().parents[1]
PARITY, MODELS = EVALS / "parity", ("llama", "llama_long")
BATCH_SIZES = (8, 32, 64)
SIDES = {
    "Levanter's adapter": "levanter",
    "windrow on Levanter's Llama": "levanter",
    "EasyDeL's adapter": "easydel",
    "windrow on EasyDeL's Llama": "easydel",
    "windrow on its own Llama": None,
}


def python(library):
    """The Python of a library's environment, or ``None``."""
    if library is None:
        return sys.executable
    return os.environ.get(f"WINDROW_{library.upper()}_PYTHON")


def levanter_adapter(llama, folder, batch_size):
    """Levanter's harness takes a mesh, and one batch size and length for all rows, which it packs."""
    import haliax as hax
    import jax
    from levanter import eval_harness
    from levanter.compat.hf_checkpoints import load_tokenizer

    jax.set_mesh(jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)))
    worker = eval_harness._LmEvalHarnessWorker(
        hax.Axis("batch", batch_size), llama.Pos, llama, {}, load_tokenizer(folder), None, 64
    )
    return worker.make_harness_lm()


def easydel_adapter(llama, folder, batch_size):
    """EasyDeL's adapter stands on its serving engine."""
    import easydel as ed
    import jax.numpy as jnp
    from easydel.inference.evaluations import eSurgeLMEvalAdapter
    from transformers import AutoTokenizer

    from comparison import CONFIG

    tokenizer, length = AutoTokenizer.from_pretrained(folder), CONFIG.max_position_embeddings
    surge = ed.eSurge(
        llama,
        tokenizer,
        max_model_len=length,
        max_num_seqs=batch_size,
        dtype=jnp.float32,
        hbm_utilization=0.002,
    )
    return eSurgeLMEvalAdapter(surge, tokenizer, max_length=length, batch_size=batch_size)


def made(folder, library, batch_size):
    """What has ``loglikelihood``: an adapter, if it gets a batch size, else windrow."""
    import windrow

    if library is None:
        return windrow.JaxLM(pretrained=folder)
    script = import_module(f"{library}_llama")
    llama = script.load()
    if batch_size is None:
        return windrow.JaxLM(script.language_model(llama), folder)
    return {"levanter": levanter_adapter, "easydel": easydel_adapter}[library](llama, folder, batch_size)


def child(job, out):
    """One run."""
    job = json.loads(Path(job).read_text())
    sys.argv[1:] = [job["folder"]]
    sys.path.insert(0, str(ROOT / "examples" / "libraries"))
    import jax
    from lm_eval.api.instance import Instance

    import_module("comparison")
    jax.config.update("jax_num_cpu_devices", 1)
    requests = [
        Instance("loglikelihood", {}, tuple(args), index, metadata=("bench", index, 1))
        for index, args in enumerate(job["requests"])
    ]
    lm = made(job["folder"], job["library"], job["batch_size"])
    begin = perf_counter()
    results = lm.loglikelihood(requests)
    seconds = perf_counter() - begin
    results = [(float(score), bool(greedy)) for score, greedy in results]
    Path(out).write_text(json.dumps({"results": results, "seconds": seconds}))
    os._exit(0)  # a serving engine's threads would wait


def compare(side, library, name, lines):
    """Runs one side at each batch size, and prints its best run."""
    chosen = python(library)
    if chosen is None:
        print(f"  {side:28} skipped: set WINDROW_{library.upper()}_PYTHON")
        return
    job = {"folder": str(PARITY / f"tiny-{name}"), "library": library, "requests": [a for a, _ in lines]}
    runs = []
    for size in BATCH_SIZES:
        job["batch_size"] = size if "adapter" in side else None
        with tempfile.TemporaryDirectory() as home:
            runs.append(in_process(__file__, job, chosen, HF_HUB_OFFLINE="1", XDG_CACHE_HOME=home))
    differ = max(differing("loglikelihood", run["results"], [known for _, known in lines]) for run in runs)
    times = [run["seconds"] for run in runs]
    shown = ", ".join(f"{seconds:.1f}" for seconds in times)
    print(f"  {side:28} {differ:4} results differ  {min(times):6.1f} s  (of {shown})", flush=True)


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    if not EVALS.is_dir():
        return print(f"skipped: needs the evaluation material in {EVALS}")
    for name in sys.argv[1:] or MODELS:
        lines = map(json.loads, (PARITY / f"{name}.jsonl").read_text().splitlines())
        lines = [(line["args"], line["result"]) for line in lines if line["type"] == "loglikelihood"]
        print(f"tiny-{name}: {len(lines)} requests; adapters in batches of {BATCH_SIZES} rows")
        for side, library in SIDES.items():
            compare(side, library, name, lines)
    return None


if __name__ == "__main__":
    main()
