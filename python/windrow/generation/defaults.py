"""What a model's own files say of generation."""

import json
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

_FILE = "generation_config.json"

_TOP_K = 50
"""Hugging Face's default: samples are drawn from the 50 most likely tokens."""

_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
    "min_length": 0,
    "typical_p": 1.0,
    "min_p": 0.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "bad_words_ids": [],
    "num_beams": 1,
    "guidance_scale": 1.0,
    "max_new_tokens": None,  # there it outweighs a task's own number
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
}
"""Fields that are not followed, and the values with which they change nothing; null never does."""


@dataclass(frozen=True)
class GenerationDefaults:
    """What counts where a request does not say.

    Attributes:
        end_tokens: Tokens that end a text.
        top_k: Samples are drawn from so many most likely tokens; 0 is no limit.
        top_p: Samples are drawn from the most likely tokens that have this probability together.
    """

    end_tokens: tuple[int, ...] = ()
    top_k: int = _TOP_K
    top_p: float = 1.0


def read_defaults(directory: str | PathLike[str], eos_token_id: int | None) -> GenerationDefaults:
    """What ``generation_config.json`` says, else ``config.json``; without either, the tokenizer's EOS ends.

    Args:
        directory: A model's directory in the Hugging Face format; where there is none, nothing is said.
        eos_token_id: The tokenizer's.

    Raises:
        ValueError: A file is not JSON, or holds an end token that is no token id.

    >>> read_defaults("no directory", 2)
    GenerationDefaults(end_tokens=(2,), top_k=50, top_p=1.0)
    """
    paths = [Path(directory) / _FILE, Path(directory) / "config.json"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return GenerationDefaults(() if eos_token_id is None else (eos_token_id,))
    values = _read_object(path)
    ends = _end_tokens(values.get("eos_token_id"), path)
    _warn_of_unfollowed(values, path)
    top_k, top_p = values.get("top_k"), values.get("top_p")
    return GenerationDefaults(ends, _TOP_K if top_k is None else top_k, 1.0 if top_p is None else top_p)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def _end_tokens(found: Any, path: Path) -> tuple[int, ...]:
    listed = [] if found is None else found if isinstance(found, list) else [found]
    for token in listed:
        if not isinstance(token, int) or isinstance(token, bool):
            raise ValueError(f"{path}: 'eos_token_id' must be a token id or a list of them, not {found!r}")
    return tuple(listed)


def _warn_of_unfollowed(values: dict[str, Any], path: Path) -> None:
    odd = [f"{name}={values[name]!r}" for name in _NEUTRAL if values.get(name) not in (None, _NEUTRAL[name])]
    if odd:
        warnings.warn(
            f"{path} sets {', '.join(odd)}, which generation here does not follow; "
            "texts may differ from those of lm_eval's Hugging Face backend",
            stacklevel=4,
        )
