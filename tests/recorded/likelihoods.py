"""Records lm_eval's log-likelihoods for a random checkpoint of every model type; run by ``make parity``.

The checkpoints are those of families.py, with a tokenizer for their small vocabulary.
"""

import json
import sys
import tempfile
from pathlib import Path

from family_cases import CASES, FAMILIES, RECURRENT
from letters import requests, write_tokenizer
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from random_weights import write_checkpoint
from transformers.models.xlstm.modeling_xlstm import xLSTMPreTrainedModel

FOLDER = Path(__file__).parent
xLSTMPreTrainedModel._init_weights = lambda *_: None  # it fails for fused weights


def log_likelihoods(folder):
    """The result of lm_eval's Hugging Face backend for each request."""
    lm = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)
    instances = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(requests())]
    return lm.loglikelihood(instances, disable_tqdm=True)


def main(names):
    file = FOLDER / "likelihoods.json"
    shapes = json.loads((FOLDER / "families.json").read_text())
    found = json.loads(file.read_text()) if names else {}
    for name in names or FAMILIES + RECURRENT:
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            # transformers' cache for xLSTM does not fit heads this small; scoring needs none.
            write_checkpoint(folder, CASES[name] | {"use_cache": False}, shapes[name])
            write_tokenizer(folder)
            found[name] = log_likelihoods(folder)
        print(f"{name}: {len(found[name])} requests, {sum(greedy for _, greedy in found[name])} greedy")
    lines = [f"{json.dumps(name)}: {json.dumps(results)}" for name, results in found.items()]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
