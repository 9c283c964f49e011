"""Beside the lm_eval adapters of Levanter and EasyDeL: the same weights, requests, float32 and cores.

Each side is a process of its own, in the library's environment: its adapter on its own Llama, windrow on that
same Llama, and windrow on its bundled one. The weights are a small Llama's with 1,024 positions, the requests
few-shot prompts whose results lm_eval's own Hugging Face backend gave. How many results differ from those is
counted before any time is printed; times are without imports, and with compilation.

    WINDROW_LEVANTER_PYTHON=... WINDROW_EASYDEL_PYTHON=... python benches/bench_adapters.py

The variables name the Python of an environment with windrow and what examples/libraries/levanter_llama.py or
easydel_llama.py lists; a side without one is skipped.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from bench_rivals import differing
from bench_scores import EVALS, in_process

ROOT = Path(__file__).resolve().parents[1]
MODEL, RECORDED = EVALS / "parity" / "tiny-llama_long", EVALS / "parity" / "llama_long.jsonl"
SIDES = {
    "Levanter's adapter": "levanter",
    "windrow on Levanter's Llama": "levanter",
    "EasyDeL's adapter": "easydel",
    "windrow on EasyDeL's Llama": "easydel",
    "windrow on its own Llama": None,
}
ROWS = 8
"""The rows of a batch of the other adapters, which do not choose them."""


def python(library):
    """The Python of a library's environment, or ``None``."""
    if library is None:
        return sys.executable
    named = os.environ.get(f"WINDROW_{library.upper()}_PYTHON")
    default = ROOT / f".venv-{library}" / "bin" / "python"
    return named or (str(default) if default.exists() else None)


def levanter(adapter):
    """Levanter's harness needs a mesh, and takes one batch size and length for all rows."""
    import haliax as hax
    import jax
    from levanter import eval_harness
    from levanter.compat.hf_checkpoints import load_tokenizer

    from levanter_llama import language_model, load

    if not adapter:
        return language_model(load())
    llama, mesh = load(), jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    jax.set_mesh(mesh)
    worker = eval_harness._LmEvalHarnessWorker(
        hax.Axis("batch", ROWS),
        llama.Pos,
        llama,
        {},
        load_tokenizer(str(MODEL)),
        None,
        max_packed_segments=64,
    )
    return worker.make_harness_lm()


def easydel(adapter):
    """EasyDeL's adapter stands on its serving engine."""
    import easydel as ed
    import jax.numpy as jnp
    from easydel.inference.evaluations import eSurgeLMEvalAdapter
    from transformers import AutoTokenizer

    from easydel_llama import language_model, load

    llama = load(1, 1)
    if not adapter:
        return language_model(llama)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    surge = ed.eSurge(
        llama, tokenizer, max_model_len=1024, max_num_seqs=ROWS, dtype=jnp.float32, hbm_utilization=0.05
    )
    return eSurgeLMEvalAdapter(surge, tokenizer, max_length=1024, batch_size=ROWS)


def child(job, out):
    """One side's run."""
    job = json.loads(Path(job).read_text())
    sys.argv[1:] = [str(MODEL), str(RECORDED)]
    sys.path.insert(0, str(ROOT / "examples" / "libraries"))
    from lm_eval.api.instance import Instance

    import windrow

    requests = [
        Instance("loglikelihood", {}, tuple(args), index, metadata=("bench", index, 1))
        for index, args in enumerate(job["requests"])
    ]
    library, adapter = job["library"], "adapter" in job["side"]
    if library:
        __import__(f"{library}_llama")
    begin = perf_counter()
    if library:
        lm = {"levanter": levanter, "easydel": easydel}[library](adapter)
        lm = lm if adapter else windrow.JaxLM(lm, str(MODEL))
    else:
        lm = windrow.JaxLM(pretrained=str(MODEL))
    results = lm.loglikelihood(requests)
    seconds = perf_counter() - begin
    results = [(float(score), bool(greedy)) for score, greedy in results]
    Path(out).write_text(json.dumps({"results": results, "seconds": seconds}))


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    if not EVALS.is_dir():
        return print(f"skipped: needs the evaluation material in {EVALS}")
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    lines = [line for line in lines if line["type"] == "loglikelihood"]
    requests, known = [line["args"] for line in lines], [line["result"] for line in lines]
    print(f"{len(requests)} requests")
    for side, library in SIDES.items():
        chosen = python(library)
        if chosen is None:
            print(f"{side:28} skipped: needs {library}; set WINDROW_{library.upper()}_PYTHON")
            continue
        job = {"side": side, "library": library, "requests": requests}
        with tempfile.TemporaryDirectory() as home:
            found = in_process(__file__, job, chosen, HF_HUB_OFFLINE="1", XDG_CACHE_HOME=home)
        differ = differing("loglikelihood", found["results"], known)
        print(f"{side:28} {found['seconds']:6.1f} s  {differ} results differ", flush=True)
    return None


if __name__ == "__main__":
    main()
