"""Where a tokenizer comes from: a file, a directory in the Hugging Face format, or the hub.

A ``tokenizer.json`` is not the whole tokenizer. What stands beside it decides more:
``tokenizer_config.json`` names the special tokens, older models name them in
``special_tokens_map.json``, and the chat template may lie in ``chat_template.jinja``.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CONFIG = "tokenizer_config.json"
_MAP = "special_tokens_map.json"
_TEMPLATE = "chat_template.jinja"
_TEMPLATES = "additional_chat_templates"
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")

ChatTemplate = str | dict[str, str] | None


@dataclass(frozen=True)
class TokenizerFiles:
    """What was found of a tokenizer.

    Attributes:
        name: What the caller called it.
        json: The text of ``tokenizer.json``.
        config: ``tokenizer_config.json``, with what only ``special_tokens_map.json`` says added; empty if
            absent.
        chat_template: The template, or several by name.
    """

    name: str
    json: str
    config: dict[str, Any] = field(default_factory=dict)
    chat_template: ChatTemplate = None


def read_files(
    source: str | os.PathLike[str], *, hf_access_token: str | None, cache_dir: str | Path | None
) -> TokenizerFiles:
    """Reads a tokenizer's files from a ``tokenizer.json``, a directory, or the hub.

    Raises:
        FileNotFoundError: There is nothing at this path, or no ``tokenizer.json`` in the directory.
        ValueError: A file is not JSON, or not the JSON object it should be.
    """
    path = Path(source)
    if path.is_dir():
        return _read(str(source), path / "tokenizer.json")
    if path.exists():
        return _read(str(source), path)
    if isinstance(source, str) and _REPOSITORY.fullmatch(source) and not source.endswith(".json"):
        return _read(source, _download(source, hf_access_token, cache_dir) / "tokenizer.json")
    raise FileNotFoundError(
        f"source {str(source)!r} is neither a tokenizer.json, nor a directory with one, nor a name on the hub"
    )


def _download(repository: str, token: str | None, cache_dir: str | Path | None) -> Path:
    import huggingface_hub

    patterns = ["tokenizer.json", _CONFIG, _MAP, _TEMPLATE, f"{_TEMPLATES}/*.jinja"]
    return Path(
        huggingface_hub.snapshot_download(
            repository, allow_patterns=patterns, token=token, cache_dir=cache_dir
        )
    )


def _read(name: str, path: Path) -> TokenizerFiles:
    if not path.is_file():
        raise FileNotFoundError(
            f"source {name!r} has no {path.name}; save one there with transformers: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it"
        )
    config = {**_read_object(path.with_name(_MAP)), **_read_object(path.with_name(_CONFIG))}
    return TokenizerFiles(name, _read_text(path), config, _chat_template(path.parent, config))


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def _chat_template(directory: Path, config: dict[str, Any]) -> ChatTemplate:
    """The template files where there are any, else what the configuration says."""
    found = {path.stem: _read_text(path) for path in sorted((directory / _TEMPLATES).glob("*.jinja"))}
    if (directory / _TEMPLATE).is_file():
        found["default"] = _read_text(directory / _TEMPLATE)
    if found:
        return found["default"] if list(found) == ["default"] else found
    return named_templates(config.get("chat_template"))


def named_templates(template: Any) -> ChatTemplate:
    """A configuration's template: a string, or several as a list of names and templates."""
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    return template  # type: ignore[no-any-return]


def object_files(source: Any) -> TokenizerFiles | None:
    """What a tokenizer of tokenizers or a fast one of transformers would save; ``None`` for others."""
    import tokenizers

    if isinstance(source, tokenizers.Tokenizer):
        return TokenizerFiles("tokenizers.Tokenizer", source.to_str())
    backend = getattr(source, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        return None
    config: dict[str, Any] = {role: str(text) for role, text in source.special_tokens_map.items()}
    for key in ("model_max_length", "clean_up_tokenization_spaces"):
        config[key] = getattr(source, key, None)
    template = named_templates(getattr(source, "chat_template", None))
    return TokenizerFiles(
        str(source.name_or_path) or type(source).__name__, backend.to_str(), config, template
    )
