"""Loads language models from directories in the Hugging Face format."""

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from windrow.admission import admit_whole
from windrow.model import LanguageModel
from windrow.models import (
    experts,
    gemma,
    gpt2,
    gpt_neox,
    granite,
    llama,
    mamba,
    mamba2,
    olmo,
    parameters,
    phi3,
    smollm3,
    xlstm,
)
from windrow.models.checkpoint import Checkpoint
from windrow.models.config import BRIDGE, DEFAULT_MAX_LENGTH, Fields, read_json, stated_max_length

_ADAPTER = "adapter_config.json"
_TENSOR_AXES = ("tensor", "model", "tp")
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
_SPELLINGS = {
    "float": "float32", "fp32": "float32", "F32": "float32", "bf16": "bfloat16", "BF16": "bfloat16",
    "half": "float16", "fp16": "float16", "F16": "float16",
}  # fmt: skip


class _Family(NamedTuple):
    architecture: str
    module: Any
    max_length: int | None
    """Hugging Face's default limit if the file has none; ``None`` for a recurrent model."""


FAMILIES = {
    "llama": _Family("LlamaForCausalLM", llama, 2048),
    "mistral": _Family("MistralForCausalLM", llama, 131072),
    "qwen2": _Family("Qwen2ForCausalLM", llama, 32768),
    "qwen3": _Family("Qwen3ForCausalLM", llama, 32768),
    "gpt_neox": _Family("GPTNeoXForCausalLM", gpt_neox, 2048),
    "phi3": _Family("Phi3ForCausalLM", phi3, 4096),
    "gemma2": _Family("Gemma2ForCausalLM", gemma, 8192),
    "gemma3_text": _Family("Gemma3ForCausalLM", gemma, 131072),
    "mixtral": _Family("MixtralForCausalLM", experts, 131072),
    "qwen3_moe": _Family("Qwen3MoeForCausalLM", experts, 32768),
    "olmo2": _Family("Olmo2ForCausalLM", olmo, 2048),
    "olmo3": _Family("Olmo3ForCausalLM", olmo, 2048),
    "smollm3": _Family("SmolLM3ForCausalLM", smollm3, 32768),
    "granite": _Family("GraniteForCausalLM", granite, 2048),
    "gpt2": _Family("GPT2LMHeadModel", gpt2, 1024),
    "mamba": _Family("MambaForCausalLM", mamba, None),
    "mamba2": _Family("Mamba2ForCausalLM", mamba2, None),
    "xlstm": _Family("xLSTMForCausalLM", xlstm, None),
}


_NOT_CAUSAL = {
    "is_encoder_decoder": "an encoder-decoder model",
    "vision_config": "a model of text and images",
    "audio_config": "a model of text and audio",
}
"""Fields that mark models of other kinds."""


def load(
    directory: str | PathLike[str],
    *,
    dtype: Any = "float32",
    mesh: Mesh | None = None,
    tensor_axis: str | None = None,
    max_length: int | str | None = "config",
    retie: bool = False,
) -> LanguageModel:
    """Loads a model with all its functions: ``apply``, ``hidden``, ``head``, ``init_state`` and ``step``.

    Args:
        directory: The directory with ``config.json`` and the safetensors files.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``: the dtype of the parameters and of the layers'
            computations. Norms, attention weights, recurrences and logits are always float32. ``"bf16"``,
            PyTorch's spellings (``"half"``, ``"torch.bfloat16"``) and NumPy's and JAX's dtypes are accepted.
            ``"auto"`` means the dtype in ``config.json``, else that of the stored tensors.
        mesh: The devices for the parameters; each device's part is read from the files separately. Mesh axes
            are treated as automatic. ``None`` places everything on the default device.
        tensor_axis: The mesh axis that splits attention heads, experts or the width inside a layer, and the
            vocabulary, if their sizes are divisible by it; parameters are replicated along all other axes.
            ``None`` uses the first of ``tensor``, ``model`` and ``tp`` that the mesh has; if it has none,
            everything is replicated.
        max_length: The maximum input length in tokens. ``"config"`` uses the configuration's ``n_positions``,
            ``max_position_embeddings`` or ``n_ctx``, else 2048. This includes recurrent models, to match
            lm_eval's Hugging Face backend. ``"unbounded"`` or ``None`` removes the limit, for recurrent
            models only.
        retie: Whether to ignore a stored head that differs from the embedding although ``config.json`` ties
            them, as lm_eval's Hugging Face backend does, because it ties the two again after loading. By
            default, the head is used, as in transformers' ``from_pretrained``.

    Returns:
        The model; its functions are pure and not yet compiled.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An architecture, field or value is not supported, a tensor is missing, unexpected or has
            the wrong shape, a file is corrupt, or an argument is invalid.

    >>> model = load("path/to/SmolLM2-135M", dtype="bfloat16", mesh=mesh)  # doctest: +SKIP
    >>> logits = jax.jit(model.apply)(model.params, tokens, positions, segment_ids)  # doctest: +SKIP
    """
    folder = Path(directory)
    values = _read_config(folder)
    family = _family(Fields(values, folder / "config.json"))
    fields = Fields(values, folder / "config.json", family.max_length or DEFAULT_MAX_LENGTH)
    module = family.module
    config = module.read_config(fields)
    fields.refuse_unknown_changes()
    limit = _limit(max_length, values, family, fields.path)
    mesh, axis = _check_mesh(mesh, tensor_axis)
    naming = (getattr(module, name, {}) for name in ("RENAMED", "FUSED"))
    checkpoint = Checkpoint(folder, module.PREFIX, *naming)
    kind = _dtype(dtype, values, checkpoint)
    leaves = parameters.settle_head(config.leaves(), checkpoint, retie)
    parameters.check(leaves, checkpoint, config.layers, module.IGNORED)
    params = parameters.place(leaves, checkpoint, config.layers, kind, mesh, axis)
    model: LanguageModel = config.language_model(params, limit)
    return model


def check_config(directory: str | PathLike[str]) -> None:
    """Rejects unknown model types and quantized checkpoints before any weights are read."""
    folder = Path(directory)
    fields = Fields(_read_config(folder), folder / "config.json")
    _family(fields)
    fields.refuse_unknown_changes()


def config_max_length(directory: str | PathLike[str]) -> int | None:
    """The length limit in a directory's ``config.json``, or ``None`` if it has none.

    The text configuration takes precedence; then ``n_positions``, ``max_position_embeddings`` and ``n_ctx``,
    in this order, as in lm_eval's Hugging Face backend, which falls back to the tokenizer, and then to 2048.
    """
    folder = Path(directory)
    values = _read_config(folder)
    return stated_max_length(values) or _family(Fields(values, folder / "config.json")).max_length


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{str(folder)!r} is not a directory; models are loaded from a local directory with "
            "config.json and safetensors files (huggingface_hub.snapshot_download fetches one)"
        )
    path = folder / "config.json"
    if (folder / _ADAPTER).is_file() and not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds an adapter ({_ADAPTER}), not a model; merge it into its base model and save that"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a model directory must have one")
    return read_json(path)


def _family(fields: Fields) -> _Family:
    """The family, by ``model_type`` only: transformers ignores the architecture in the file."""
    kind = fields.take("model_type", None)
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        known = ", ".join(f"{kind} ({family.architecture})" for kind, family in FAMILIES.items())
        for name, other in _NOT_CAUSAL.items():
            if fields.take(name, None):
                raise ValueError(
                    f"{fields.path}: model_type {kind!r} is {other}; only causal text models are supported"
                )
        raise ValueError(
            f"{fields.path}: model_type {kind!r} is not supported; supported: {known}. Otherwise {BRIDGE}"
        )
    return family


def _dtype(asked: Any, values: dict[str, Any], checkpoint: Checkpoint) -> np.dtype[Any]:
    """The dtype; for ``"auto"``, that of the configuration, else that of the tensors."""
    found = asked
    if asked == "auto":
        found = values.get("dtype") or values.get("torch_dtype") or checkpoint.dtype(checkpoint.first)
    if not isinstance(found, str | None):
        try:
            found = np.dtype(found).name
        except TypeError:  # a PyTorch dtype
            found = str(found)
    name = "float32" if found is None else found.removeprefix("torch.")
    name = _SPELLINGS.get(name, name)
    if name not in _DTYPES:
        where = f" (from {checkpoint.directory})" if asked == "auto" else ""
        raise ValueError(f"dtype must be auto or one of {', '.join(_DTYPES)}, not {found!r}{where}")
    dtype: np.dtype[Any] = np.dtype(_DTYPES[name])
    return dtype


def _limit(asked: int | str | None, values: dict[str, Any], family: _Family, path: Path) -> int | None:
    if asked is None or asked == "unbounded":
        if family.max_length is None:
            return None
        raise ValueError(
            f"max_length={asked!r} is only for recurrent models, but {path} describes one with attention; "
            "give a number"
        )
    if asked == "config":
        return stated_max_length(values) or family.max_length or DEFAULT_MAX_LENGTH
    return admit_whole("max_length", asked, also=", 'config', 'unbounded' or None")


def _check_mesh(mesh: Mesh | None, axis: str | None) -> tuple[Mesh | None, str | None]:
    if mesh is None:
        if axis is not None:
            raise ValueError(f"tensor_axis={axis!r} needs a mesh")
        return None, None
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh or None, not {type(mesh).__name__}")
    if axis is None:
        axis = next((name for name in _TENSOR_AXES if name in mesh.axis_names), None)
    elif axis not in mesh.axis_names:
        raise ValueError(
            f"tensor_axis={axis!r} is not an axis of the mesh, which has {', '.join(mesh.axis_names)}"
        )
    return Mesh(mesh.devices, mesh.axis_names), axis
