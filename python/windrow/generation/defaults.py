"""Reads a model's generation defaults from ``generation_config.json`` or ``config.json``."""

import json
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from windrow.generation.rules import NO_RULES, Rules, read_rules, tokens, whole
from windrow.generation.unfollowed import UNFOLLOWED

_FILE = "generation_config.json"

_TOP_K = 50
"""Hugging Face's default: samples are drawn from the 50 most likely tokens."""


@dataclass(frozen=True)
class GenerationDefaults:
    """Defaults for settings that a request does not specify.

    Attributes:
        end_tokens: Tokens that end a text.
        top_k: Samples are drawn from the ``top_k`` most likely tokens; 0 means no limit.
        top_p: Samples are drawn from the smallest set of most likely tokens with this total probability.
        rules: Changes to the logits before a token is chosen.
        max_new_tokens: The maximum number of tokens per text; if not ``None``, it overrides the request's.
        others: Unsupported fields, by name; requests that they would affect are rejected.
        source: The path of the file, for error messages.
    """

    end_tokens: tuple[int, ...] = ()
    top_k: int = _TOP_K
    top_p: float = 1.0
    rules: Rules = NO_RULES
    max_new_tokens: int | None = None
    others: dict[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)


def read_defaults(directory: str | PathLike[str], eos_token_id: int | None) -> GenerationDefaults:
    """Reads ``generation_config.json``, else ``config.json``; without them, only the EOS token ends texts.

    As in transformers 5.24, a request's keywords override these defaults, except for ``max_new_tokens``:
    lm_eval's Hugging Face backend asks for a total length, which the file's ``max_new_tokens`` overrides.

    Args:
        directory: A model directory in the Hugging Face format; it need not exist.
        eos_token_id: The tokenizer's EOS.

    Raises:
        ValueError: A file is not JSON, or a field is invalid.

    >>> read_defaults("no directory", 2).end_tokens
    (2,)
    """
    paths = [Path(directory) / _FILE, Path(directory) / "config.json"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return GenerationDefaults(() if eos_token_id is None else (eos_token_id,))
    values = {name: value for name, value in _read_object(path).items() if value is not None}
    try:
        return GenerationDefaults(
            end_tokens=_end_tokens(values.pop("eos_token_id", ())),
            top_k=values.pop("top_k", _TOP_K),
            top_p=values.pop("top_p", 1.0),
            rules=read_rules(values, NO_RULES),
            max_new_tokens=_limit(values.pop("max_new_tokens", None)),
            others={name: values[name] for name in UNFOLLOWED if name in values},
            source=str(path),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def _end_tokens(found: Any) -> tuple[int, ...]:
    try:
        return tokens(found)
    except (TypeError, ValueError):
        raise ValueError(f"'eos_token_id' must be a token id or a list of them, not {found!r}") from None


def _limit(found: Any) -> int | None:
    try:
        limit = None if found is None else whole(found)
    except (TypeError, ValueError):
        limit = 0
    if limit == 0:
        raise ValueError(f"'max_new_tokens' must be a positive whole number, not {found!r}")
    return limit
