"""Shared by the scripts here: a small checkpoint, and a comparison with the library's own numbers.

The checkpoint is a two-layer Llama in the Hugging Face format, with recorded results of lm_eval's own
backend. To use another one, run ``SCRIPT.py FOLDER RESULTS.jsonl``.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance
from safetensors.numpy import load_file

import windrow
from windrow.tokens import load_tokenizer

jax.config.update("jax_num_cpu_devices", 4)

RECORDED = Path(__file__).resolve().parents[2] / "tests" / "recorded"
FOLDER, RESULTS = [*map(Path, sys.argv[1:]), RECORDED / "model", RECORDED / "results.json"][:2]
CONFIG = SimpleNamespace(**json.loads((FOLDER / "config.json").read_text()))
PAIRS = [
    ("Make hay while", " the sun shines."),
    ("Make hay while", " you can."),
    ("Make hay", " while"),
    ("Still waters", " run deep, and the devil takes the hindmost."),
    ("A stitch in time", " saves nine"),
]
CHUNKS = (7, 16, 60, 64, 100)
"""Chunk lengths: odd, a divisor of the cache's length, and longer than the cache."""


def tensors() -> dict[str, np.ndarray]:
    """The checkpoint's tensors under their names in transformers."""
    return load_file(FOLDER / "model.safetensors")


def mesh() -> jax.sharding.Mesh:
    """Four CPU devices: rows are split over ``data``, parameters over ``tensor``."""
    return jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)


def split(params: Any) -> Any:
    """Parameters with the last axis of each matrix split over ``tensor``."""
    devices = mesh()

    def put(leaf: jax.Array) -> jax.Array:
        last = "tensor" if leaf.ndim > 1 and leaf.shape[-1] % 2 == 0 else None
        axes = [None] * (leaf.ndim - 1) + [last] * (leaf.ndim > 0)
        return jax.device_put(leaf, NamedSharding(devices, PartitionSpec(*axes)))

    return jax.tree.map(put, params)


def compare(
    model: windrow.LanguageModel,
    own: Callable[[jax.Array], jax.Array],
    on_mesh: windrow.LanguageModel | None = None,
    recorded: bool = True,
) -> None:
    """Prints how far windrow's numbers are from the library's own; fails if that exceeds rounding.

    Args:
        model: The library's model, on one device or on several.
        own: The library's forward pass, which maps tokens, ``int32[1, length]``, to logits,
            ``[1, length, vocab]``.
        on_mesh: The model with its parameters split over four devices; by default, :func:`split` splits them.
        recorded: Whether the weights are the checkpoint's.
    """
    several = any(len(leaf.sharding.device_set) > 1 for leaf in jax.tree.leaves(model.params))
    where = None if several else jax.sharding.Mesh(jax.devices()[:1], ("data",))
    checks = windrow.check_model(model, sharding=where)
    print(checks)
    assert checks.passed

    expected = np.array([own_score(own, *pair) for pair in PAIRS])
    runs = {layout: (model, {"sharding": where, **options}) for layout, options in layouts(model, checks)}
    if several:
        print("all on four devices")
    else:
        runs["four devices"] = (on_mesh or replace(model, params=split(model.params)), {})
    for layout, (laid, options) in runs.items():
        found = windrow.score(laid, str(FOLDER), PAIRS, **options).log_likelihoods
        report(layout, found, expected, "the library's own forward pass")
    compare_texts(model, where)
    if recorded:
        compare_with_recording(windrow.JaxLM(model, str(FOLDER), sharding=where))


def compare_texts(model: windrow.LanguageModel, where: jax.sharding.Mesh | None) -> None:
    """Compares texts generated without a cache, with one, and with prompts processed in chunks."""
    prompts = ["".join(pair) for pair in PAIRS]
    options = {"max_new_tokens": 8, "end_tokens": (), "sharding": where}
    anew = replace(model, init_state=None, step=None)
    known = windrow.generate(anew, str(FOLDER), prompts, **options).texts
    for chunk_length in (None, *CHUNKS):
        found = windrow.generate(model, str(FOLDER), prompts, chunk_length=chunk_length, **options).texts
        assert found == known, (chunk_length, found, known)
    print(f"{len(known)} texts generated with the cache, whole and in chunks, the same as without it")


def compare_with_recording(lm: windrow.JaxLM) -> None:
    """Compares with the recorded results of lm_eval's own backend."""
    for request_type in ("loglikelihood", "loglikelihood_rolling"):
        found, known = (
            [row[0] if isinstance(row, tuple | list) else row for row in rows]
            for rows in asked(lm, request_type)
        )
        report(request_type, found, known, "lm_eval's own backend")
    found, known = asked(lm, "generate_until")
    assert found == known
    print(f"{len(found)} texts generated, the same as by lm_eval's own backend")


def layouts(model: windrow.LanguageModel, checks: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Options for :func:`windrow.score`, for each layout that the model supports."""
    alone = windrow.BatchPolicy(pack=False, share=False)
    yield "one request per row", {"policy": alone}
    if checks["packed rows"].status == "passed":
        yield "packed rows", {"policy": windrow.BatchPolicy(pack=True, share=False)}
    if model.takes_reach:
        yield "prefix trees", {"policy": windrow.BatchPolicy(share="trees")}
    for size in CHUNKS:
        yield f"chunks of {size}", {"policy": alone, "chunk_length": size}


def own_score(own: Callable[[jax.Array], jax.Array], context: str, continuation: str) -> float:
    """The log-likelihood of a continuation, from the library's own logits."""
    tokenizer = load_tokenizer(str(FOLDER))
    tokens = np.array([tokenizer.encode(context + continuation)], np.int32)
    start = len(tokenizer.encode(context))
    logprobs = jax.nn.log_softmax(own(jax.numpy.asarray(tokens))[0].astype("float32"))
    return sum(float(logprobs[at - 1, tokens[0, at]]) for at in range(start, tokens.shape[1]))


def asked(lm: windrow.JaxLM, request_type: str) -> tuple[list, list]:
    """The model's results for the recorded requests, and the recorded results."""
    if RESULTS.suffix == ".jsonl":
        lines = map(json.loads, RESULTS.read_text().splitlines())
        rows = [(*line["args"], line["result"]) for line in lines if line["type"] == request_type]
    else:
        rows = json.loads(RESULTS.read_text())[request_type]
    requests = [Instance(request_type, {}, tuple(row[:-1]), index) for index, row in enumerate(rows)]
    return getattr(lm, request_type)(requests), [row[-1] for row in rows]


def report(what: str, found: Sequence[float], expected: Sequence[float], source: str) -> None:
    difference = np.abs(np.subtract(found, expected)).max()
    print(f"{what:22} {difference:.1e} nats from {source}")
    assert difference < 2e-3, what
