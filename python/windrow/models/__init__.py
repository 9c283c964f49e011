"""Llama, Mistral, Qwen2, Qwen3, GPT-2 and Mamba as pure functions, loaded from Hugging Face directories."""

from windrow.models.loading import config_max_length as config_max_length
from windrow.models.loading import load as load

__all__ = ["config_max_length", "load"]
