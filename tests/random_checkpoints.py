"""Random checkpoints with changed fields and tensors, and the result of loading them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference_models import LLAMA, random_tensors, write
from windrow.models import load

QWEN2 = LLAMA | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
MISTRAL = LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
"""Without ``sliding_window``, unlike ``reference_models.MISTRAL``."""


def save(folder, config, fields=(), tensors=(), **options):
    """Writes a checkpoint with changed fields and tensors; ``None`` removes a tensor."""
    whole = random_tensors(config) | dict(tensors)
    kept = {name: tensor for name, tensor in whole.items() if tensor is not None}
    return write(folder / "model", config | dict(fields), kept, **options)


def refused(pattern, directory, error=ValueError, **options):
    """Asserts that loading the checkpoint fails with a message that matches."""
    with pytest.raises(error, match=pattern):
        load(directory, **options)


def outcome(directory, **options):
    """Logits for a few tokens, and the number of parameters."""
    model = load(directory, **options)
    tokens = np.array([[1, 5, 9, 33, 2, 7, 50, 3, 4, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]], np.int32)
    positions, ids = np.arange(20, dtype=np.int32)[None], np.ones((1, 20), np.int32)
    logits = np.asarray(model.apply(model.params, *map(jnp.asarray, (tokens, positions, ids))))
    return logits, sum(leaf.size for leaf in jax.tree.leaves(model.params))
