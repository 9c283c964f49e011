"""Records transformers' logits for tiny random checkpoints of every family; run by ``make parity``.

Each case is a realistic ``config.json``. The tensors' names and shapes are those that transformers saves.
Their values depend only on their names, so the recording needs to hold only logits. For one case of every
model type, the error of logits in bfloat16 is recorded too.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from family_cases import CASES, FAMILIES, RECURRENT
from random_weights import PICKED, rows, write_checkpoint
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.xlstm.modeling_xlstm import xLSTMPreTrainedModel

FOLDER = Path(__file__).parent
ROUNDED = {*FAMILIES, *RECURRENT} - {"xlstm, fused, biases"}  # xLSTM's code for CPUs fails in bfloat16
xLSTMPreTrainedModel._init_weights = lambda *_: None  # it fails for fused weights


def stored_shapes(config, folder):
    """The names and shapes of the tensors that transformers saves for such a model."""
    (folder / "config.json").write_text(json.dumps(config))
    made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    made.save_pretrained(folder / "saved")
    with safe_open(folder / "saved" / "model.safetensors", framework="np") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a mapping)


def logits(folder, vocab, dtype=torch.float32):
    """Logits at the picked positions of each row, one row at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    model.set_experts_implementation("eager")  # the default one refuses small sizes in bfloat16
    found = []
    with torch.no_grad():
        for tokens in rows(vocab):
            whole = model(input_ids=torch.from_numpy(tokens[None]).long(), use_cache=False).logits[0]
            found.append(whole.float().numpy()[[at for at in PICKED if at < len(tokens)]])
    return np.concatenate(found)


def rounding(folder, vocab, exact):
    """The root mean square error of logits in bfloat16."""
    return float(np.sqrt(np.mean((logits(folder, vocab, torch.bfloat16) - exact) ** 2)))


def main(names):
    shapes_file, logits_file = FOLDER / "families.json", FOLDER / "families.npz"
    errors_file = FOLDER / "bfloat16.json"
    shapes = json.loads(shapes_file.read_text()) if names else {}
    errors = json.loads(errors_file.read_text()) if names else {}
    values = dict(np.load(logits_file)) if names else {}
    for name, config in CASES.items():
        if names and not name.startswith(tuple(names)):
            continue
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            shapes[name] = stored_shapes(config, folder)
            write_checkpoint(folder / "model", config, shapes[name])
            values[name] = logits(folder / "model", config["vocab_size"])
            if name in ROUNDED:
                errors[name] = rounding(folder / "model", config["vocab_size"], values[name])
        print(f"{name}: logits within ±{np.abs(values[name]).max():.1f}")
    shapes_file.write_text(json.dumps(shapes, indent=0) + "\n")
    errors_file.write_text(json.dumps(errors, indent=0) + "\n")
    np.savez_compressed(logits_file, **values)


if __name__ == "__main__":
    main(sys.argv[1:])
