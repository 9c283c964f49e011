"""Random tensors that depend only on their names, so recordings do not need to contain them."""

import json
from zlib import crc32

import numpy as np
from safetensors.numpy import save_file

LENGTHS = (150, 37, 5)
"""The lengths of the recorded rows: beyond every sliding window and original training length, and short."""

PICKED = (0, 1, 4, 20, 36, 63, 64, 65, 100, 149)
"""The positions whose logits are recorded."""


def random_tensor(name, shape):
    """A random tensor: a matrix that preserves activations' scale, a norm near 1, or a moderate decay."""
    rng = np.random.default_rng(crc32(name.encode()))
    values = rng.standard_normal(shape)
    if name.endswith("A_log"):
        return np.log(1 + 15 * rng.random(shape)).astype(np.float32)
    if name.endswith("dt_bias"):
        return (values - 3).astype(np.float32)
    spread = 1.2 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
    if name.endswith(("embed_tokens.weight", "embed_in.weight", "embeddings.weight")):
        spread = 1.0
    centre = 1.0 if "norm" in name.split(".")[-2] or name.endswith((".D", ".ln_1.weight")) else 0.0
    centre = 0.0 if name.endswith("bias") else centre
    return (centre + spread * values).astype(np.float32)


def write_checkpoint(folder, config, shapes):
    """A folder with ``config.json`` and ``model.safetensors``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: random_tensor(name, tuple(shape)) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rows(vocab):
    """The tokens of each recorded row."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, vocab, length, np.int32) for length in LENGTHS]
