"""Records what transformers computes for tiny random checkpoints of every family: ``make parity`` runs this.

Each case is a ``config.json`` as people have it. The tensors' names and shapes are those that
transformers saves; their values follow from their names, so that the recording holds logits alone.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from family_cases import CASES
from random_weights import PICKED, rows, write_checkpoint
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.xlstm.modeling_xlstm import xLSTMPreTrainedModel

FOLDER = Path(__file__).parent
xLSTMPreTrainedModel._init_weights = lambda *_: None  # it fails for fused weights


def stored_shapes(config, folder):
    """The names and shapes under which transformers saves such a model."""
    (folder / "config.json").write_text(json.dumps(config))
    made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    made.save_pretrained(folder / "saved")
    with safe_open(folder / "saved" / "model.safetensors", framework="np") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a mapping)


def logits(folder, vocab):
    """At the picked places of each row, one row at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    with torch.no_grad():
        for tokens in rows(vocab):
            whole = model(input_ids=torch.from_numpy(tokens[None]).long(), use_cache=False).logits[0].numpy()
            found.append(whole[[at for at in PICKED if at < len(tokens)]])
    return np.concatenate(found)


def main(names):
    shapes_file, logits_file = FOLDER / "families.json", FOLDER / "families.npz"
    shapes = json.loads(shapes_file.read_text()) if names else {}
    values = dict(np.load(logits_file)) if names else {}
    for name, config in CASES.items():
        if names and not name.startswith(tuple(names)):
            continue
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            shapes[name] = stored_shapes(config, folder)
            write_checkpoint(folder / "model", config, shapes[name])
            values[name] = logits(folder / "model", config["vocab_size"])
        print(f"{name}: logits within ±{np.abs(values[name]).max():.1f}")
    shapes_file.write_text(json.dumps(shapes, indent=0) + "\n")
    np.savez_compressed(logits_file, **values)


if __name__ == "__main__":
    main(sys.argv[1:])
