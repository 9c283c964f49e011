"""One of several processes with different numbers of devices, each with its own copy of the parameters.

python uneven_worker.py PORT COUNT PROCESS RESULT
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

import windrow
from byte_tokenizer import ByteTokenizer
from small_model import head, hidden, init_state, prefix_model, step
from windrow.sharding import HostsDifferError

PAIRS = [("ab", "c"), ("a", "bcd"), ("abcdefg", "hi")] * 5
PROMPTS = ["ab", "xyz"]


def main(port: str, count: int, process: int, result: str) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", count, process)
    model = prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step)
    kinds = {"local": model.params, "numpy": jax.tree.map(np.asarray, model.params)}
    found = {"devices": len(jax.local_devices()), "scores": {}}
    for name, params in kinds.items():
        given = replace(model, params=params)
        scores = windrow.score(given, ByteTokenizer(), PAIRS)
        texts = windrow.generate(given, ByteTokenizer(), PROMPTS, max_new_tokens=4, end_tokens=[])
        found["scores"][name] = [scores.log_likelihoods.tolist(), texts.texts]
    lm = windrow.JaxLM(model, ByteTokenizer(), prefix_token_id=0)
    found["reports"] = lm.with_params(kinds["numpy"]).report()["devices"]
    other = jax.tree.map(lambda leaf: leaf + process, model.params)
    try:
        windrow.score(replace(model, params=other), ByteTokenizer(), PAIRS)
    except HostsDifferError as error:
        found["refused"] = str(error)
    Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
