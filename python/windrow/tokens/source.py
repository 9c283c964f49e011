"""Reads a tokenizer's files from a path, a directory in the Hugging Face format, or the Hub.

A ``tokenizer.json`` is not the complete tokenizer. The files next to it matter too: ``tokenizer_config.json``
names the special tokens (``special_tokens_map.json`` in older models), and the chat template may be in
``chat_template.jinja``.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windrow.tokens.hub import download

_CONFIG = "tokenizer_config.json"
_MAP = "special_tokens_map.json"
_ADDED = "added_tokens.json"
_MODEL = "config.json"
_TEMPLATE = "chat_template.jinja"
_TEMPLATES = "additional_chat_templates"
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")

ChatTemplate = str | dict[str, str] | None


@dataclass(frozen=True)
class TokenizerFiles:
    """The files of a tokenizer.

    Attributes:
        name: The source, as passed by the caller.
        json: The text of ``tokenizer.json``.
        config: ``tokenizer_config.json``, completed by ``special_tokens_map.json`` and ``added_tokens.json``;
            empty if absent.
        chat_template: The template, or several by name.
        model_type: The ``model_type`` in the model's ``config.json``, if there is one.
        model_name: Its ``model_name``, if there is one.
    """

    name: str
    json: str
    config: dict[str, Any] = field(default_factory=dict)
    chat_template: ChatTemplate = None
    model_type: str | None = None
    model_name: str | None = None


def read_files(
    source: str | os.PathLike[str], *, hf_access_token: str | None, cache_dir: str | Path | None
) -> TokenizerFiles:
    """Reads a tokenizer's files from a ``tokenizer.json``, a directory, or the Hub.

    Raises:
        FileNotFoundError: The path does not exist, or the directory has no ``tokenizer.json``.
        ValueError: A file is not JSON, or not a JSON object, or cannot be fetched from the Hub.
    """
    path = Path(source)
    if path.is_dir():
        return _read(str(source), path / "tokenizer.json")
    if path.exists():
        return _read(str(source), path)
    if isinstance(source, str) and _REPOSITORY.fullmatch(source) and not source.endswith(".json"):
        patterns = ["tokenizer.json", _CONFIG, _MAP, _ADDED, _MODEL, _TEMPLATE, f"{_TEMPLATES}/*.jinja"]
        what = f"tokenizer {source!r} is not a local path; as a name, it"
        folder = download(what, source, patterns, token=hf_access_token, cache_dir=cache_dir)
        return _read(source, folder / "tokenizer.json")
    raise FileNotFoundError(
        f"tokenizer {str(source)!r} is not a tokenizer.json, a directory with one, or a name on the Hub"
    )


def _read(name: str, path: Path) -> TokenizerFiles:
    if not path.is_file():
        raise FileNotFoundError(
            f"tokenizer {name!r} has no {path.name}; to write one with transformers, call "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    model = _read_object(path.with_name(_MODEL))
    config = _read_object(path.with_name(_CONFIG))
    config["tokenizer_class"] = config.get("tokenizer_class") or model.get("tokenizer_class")
    if "added_tokens_decoder" not in config:  # older files, which are ignored if tokens are listed
        config = _with_map(config, _read_object(path.with_name(_MAP)))
        config["added_tokens"] = _read_object(path.with_name(_ADDED))
    template = _chat_template(path.parent, config)
    return TokenizerFiles(
        name, _read_text(path), config, template, model.get("model_type"), model.get("model_name")
    )


def _with_map(config: dict[str, Any], special: dict[str, Any]) -> dict[str, Any]:
    """A configuration updated by ``special_tokens_map.json``, which takes precedence."""
    special = {key: _special(value) for key, value in special.items()}
    if any(key in config for key in ("extra_special_tokens", "additional_special_tokens")):
        special.pop("additional_special_tokens", None)
    return config | special


def _special(value: Any) -> Any:
    return {**value, "special": True} if isinstance(value, dict) and "content" in value else value


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
    """The template files if there are any, else the configuration's template."""
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
    """The files of a ``tokenizers.Tokenizer`` or a fast transformers tokenizer; ``None`` for others."""
    import tokenizers

    if isinstance(source, tokenizers.Tokenizer):
        splits = {"split_special_tokens": source.encode_special_tokens}
        return TokenizerFiles("tokenizers.Tokenizer", source.to_str(), splits)
    backend = getattr(source, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        return None
    config: dict[str, Any] = {
        role: [str(each) for each in text] if isinstance(text, list) else str(text)
        for role, text in source.special_tokens_map.items()
    }
    for key in ("model_max_length", "clean_up_tokenization_spaces", "split_special_tokens"):
        config[key] = getattr(source, key, None)
    template = named_templates(getattr(source, "chat_template", None))
    return TokenizerFiles(
        str(source.name_or_path) or type(source).__name__, backend.to_str(), config, template
    )
