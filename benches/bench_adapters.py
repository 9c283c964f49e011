"""Compares with Levanter's own lm_eval adapter: same weights, requests, dtype and cores.

The weights are those of a small Llama, the requests a few hundred of ``local_suite``. A run loads the model,
tokenizes, compiles and scores; only imports are excluded. Each run is its own process with an empty
compilation cache: the adapter with Levanter's Llama, windrow with that same Llama, and windrow with its own.
The adapter runs at each of three batch sizes, windrow the same number of times, and the fastest run counts.
Results are compared before any time is printed.

    WINDROW_LEVANTER_PYTHON=... python benches/bench_adapters.py [--documents N]

The variable names the Python of an environment with windrow and what examples/libraries/levanter_llama.py
lists. EasyDeL's adapter is not compared: on a CPU, its serving engine did not start within minutes.

The adapter encodes without a BOS token, so windrow does too. Requests that the adapter encodes differently
from lm_eval's own backend are left out: those with an empty context, or one that ends in white space.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from bench_rivals import BATCH_SIZES, ROOT, SMALL, differing
from bench_scores import EVALS, in_process, pairs_of


def levanter_adapter(llama, batch_size):
    """Levanter's harness packs rows of one length; it expects a mesh."""
    import haliax as hax
    import jax
    from levanter import eval_harness
    from levanter.compat.hf_checkpoints import load_tokenizer

    jax.set_mesh(jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)))
    tokenizer, batch = load_tokenizer(str(SMALL)), hax.Axis("batch", batch_size)
    worker = eval_harness._LmEvalHarnessWorker(
        batch, llama.Pos, llama, {}, tokenizer, None, max_packed_segments=64
    )
    return worker.make_harness_lm()


def loaded(script, batch_size):
    """The model: Levanter's adapter if a batch size is given, else windrow's."""
    import windrow

    if script is None:
        return windrow.JaxLM(pretrained=str(SMALL), add_bos_token=False)
    llama = script.load()
    if batch_size is None:
        return windrow.JaxLM(script.language_model(llama), str(SMALL), add_bos_token=False)
    return levanter_adapter(llama, batch_size)


def child(job, out):
    """One run."""
    job = json.loads(Path(job).read_text())
    sys.argv[1:] = [str(SMALL)]
    sys.path.insert(0, str(ROOT / "examples" / "libraries"))
    import jax
    from lm_eval.api.instance import Instance

    script = None
    if job["levanter"]:
        from levanter import eval_harness  # noqa: F401

        import levanter_llama as script
    jax.config.update("jax_num_cpu_devices", 1)  # the script asks for four
    requests = [
        Instance("loglikelihood", {}, tuple(pair), index, metadata=("bench", index, 1))
        for index, pair in enumerate(job["pairs"])
    ]
    begin = perf_counter()
    results = loaded(script, job["batch_size"]).loglikelihood(requests)
    seconds = perf_counter() - begin
    results = [(float(score), bool(greedy)) for score, greedy in results]
    Path(out).write_text(json.dumps({"results": results, "seconds": seconds}))


def runs(pairs, python, *, levanter, adapter=False):
    """One run for each batch size; windrow chooses its own batch sizes."""
    found = {}
    for size in BATCH_SIZES["cpu"]:
        job = {"levanter": levanter, "pairs": pairs, "batch_size": size if adapter else None}
        with tempfile.TemporaryDirectory() as home:
            found[size] = in_process(__file__, job, python, HF_HUB_OFFLINE="1", XDG_CACHE_HOME=home)
    return found


def check(found, known):
    """Exits if a run's results differ from the known ones."""
    for size, run in found.items():
        count = differing("loglikelihood", run["results"], known)
        assert not count, f"{count} results differ in batches of {size}"


def show(side, found, *, adapter):
    times = {size: f"{run['seconds']:.1f}" for size, run in found.items()}
    shown = ", ".join(f"{size}: {time}" if adapter else time for size, time in times.items())
    least = min(run["seconds"] for run in found.values())
    print(f"  {side:28} {least:6.1f} s  ({'by batch size' if adapter else 'of'} {shown})", flush=True)


def compare(documents, python):
    """Compares the results of all sides with those of windrow on its own Llama, then prints times."""
    pairs = [
        pair for pair in pairs_of(["local_suite"], 0, documents) if pair[0] and not pair[0][-1].isspace()
    ]
    sides = {"windrow": runs(pairs, sys.executable, levanter=False)}
    sides["Levanter's adapter"] = runs(pairs, python, levanter=True, adapter=True)
    sides["windrow on Levanter's Llama"] = runs(pairs, python, levanter=True)
    known = sides["windrow"][BATCH_SIZES["cpu"][0]]["results"]
    for found in sides.values():
        check(found, known)
    print(f"local_suite on {SMALL.name}: {len(pairs)} requests, results equal")
    for side, found in sides.items():
        show(side, found, adapter="adapter" in side)


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    if not EVALS.is_dir():
        return print(f"skipped: needs the evaluation material in {EVALS}")
    if "WINDROW_LEVANTER_PYTHON" not in os.environ:
        return print("skipped: set WINDROW_LEVANTER_PYTHON to the Python of an environment with Levanter")
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=16, help="of each task")
    return compare(parser.parse_args().documents, os.environ["WINDROW_LEVANTER_PYTHON"])


if __name__ == "__main__":
    main()
