"""Arguments of lm_eval's Hugging Face backend that have no counterpart here.

Users bring their existing ``--model_args``. Arguments about how to find, load or place a PyTorch model do not
change results and are accepted silently. Those that ask for something windrow cannot do are listed in one
warning.
"""

from collections.abc import Collection, Mapping
from typing import Any

from windrow.admission import did_you_mean
from windrow.warning import warn

_SILENT = (
    "trust_remote_code", "low_cpu_mem_usage", "use_safetensors", "weights_only", "cache_dir",
    "force_download", "local_files_only", "token", "use_auth_token", "proxies", "resume_download",
)  # fmt: skip
"""Permissions, and how to download and read files."""

_PLACEMENT = "devices are chosen with sharding or mesh"
_QUANTIZED = "parameters are taken as the safetensors files hold them, cast to dtype"
_BASE = "results are those of the model without it"

_UNDONE: dict[str, tuple[tuple[Any, ...], str]] = {
    "backend": (("default", "causal"), "models here are causal"),
    "truncation": ((False,), "prompts that are too long are cut from the left"),
    "softmax_dtype": (("float32", "torch.float32", "float"), "log-probabilities are computed in float32"),
    "mixed_precision_dtype": ((), "layers compute in dtype"),
    "use_fast_tokenizer": ((True,), "tokenizers are read from tokenizer.json, as fast ones are"),
    "parallelize": ((False,), _PLACEMENT),
    "max_memory_per_gpu": ((), _PLACEMENT),
    "max_cpu_memory": ((), _PLACEMENT),
    "max_memory": ((), _PLACEMENT),
    "offload_folder": (("./offload",), _PLACEMENT),
    "offload_state_dict": ((False,), _PLACEMENT),
    "offload_buffers": ((False,), _PLACEMENT),
    "tp_plan": ((), _PLACEMENT),
    "tp_size": ((), _PLACEMENT),
    "device_mesh": ((), _PLACEMENT),
    "device_map": ((), _PLACEMENT),
    "attn_implementation": ((), "attention is computed with JAX"),
    "use_flash_attention_2": ((False,), "attention is computed with JAX"),
    "use_kernels": ((False,), "layers are computed with JAX"),
    "use_cache": ((True,), "generation keeps its state"),
    "peft": ((), _BASE),
    "delta": ((), _BASE),
    "autogptq": ((False,), _QUANTIZED),
    "gptqmodel": ((False,), _QUANTIZED),
    "gguf_file": ((), _QUANTIZED),
    "quantization_config": ((), _QUANTIZED),
    "load_in_8bit": ((False,), _QUANTIZED),
    "load_in_4bit": ((False,), _QUANTIZED),
    "bnb_4bit_compute_dtype": ((), _QUANTIZED),
    "bnb_4bit_quant_type": ((), _QUANTIZED),
    "bnb_4bit_use_double_quant": ((False,), _QUANTIZED),
    "variant": ((), "model.safetensors or its index is read"),
    "ignore_mismatched_sizes": ((False,), "tensors must have the shapes that config.json asks for"),
}
"""By name: the values that ask for nothing special, and what windrow does instead."""

NAMES = (*_SILENT, *_UNDONE)
"""All accepted names."""


def take_foreign(arguments: Mapping[str, Any], accepted: Collection[str]) -> None:
    """Warns once about arguments that ask for something windrow cannot do.

    Args:
        arguments: By name; values may be strings, as on a command line.
        accepted: The other accepted names, for the error.

    Raises:
        TypeError: lm_eval's Hugging Face backend has no argument of that name either.

    >>> take_foreign({"trust_remote_code": True, "parallelize": "False"}, ())
    """
    for name in arguments:
        if name not in NAMES:
            raise TypeError(unknown(name, accepted))
    asked = [name for name, value in arguments.items() if name in _UNDONE and _asks(name, value)]
    if asked:
        listed = "; ".join(f"{name}={arguments[name]!r} ({_UNDONE[name][1]})" for name in asked)
        warn(f"ignored model arguments: {listed}")


def unknown(name: str, accepted: Collection[str]) -> str:
    """The message for an unknown argument."""
    near = did_you_mean(name, [*accepted, *NAMES])
    return f"unknown model argument {name!r}{near or '; accepted: ' + ', '.join(accepted)}"


def _asks(name: str, value: Any) -> bool:
    """Whether the value, in any spelling, asks for something special."""
    neutral = {str(each).lower() for each in (None, "", *_UNDONE[name][0])}
    return str(value).lower() not in neutral
