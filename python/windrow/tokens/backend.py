"""A tokenizer of the ``tokenizers`` package, finished the way transformers finishes it.

A ``tokenizer.json`` is completed by its ``tokenizer_config.json``: the special tokens
named there are made special, and ``add_bos_token`` decides whether a BOS token is put
before each text. Truncation and padding that happen to be stored are dropped.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing

from windrow.tokens.source import TokenizerFiles

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class SpecialTokens:
    """Which token plays which role, by its text; ``None`` where none does."""

    bos: str | None
    eos: str | None
    pad: str | None
    roles: Mapping[str, str]


def build_backend(files: TokenizerFiles, add_bos_token: bool | None) -> tuple[Any, SpecialTokens]:
    """Builds the Python tokenizer that ``files`` describe, and says which special tokens it has.

    Raises:
        ValueError: The file is not JSON, or has a component that the ``tokenizers`` package does not know.
    """
    try:
        backend = tokenizers.Tokenizer.from_str(files.json)
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"source {files.name!r} is not a tokenizer that can be built: {error}") from error
    padding = backend.padding
    backend.no_truncation()
    backend.no_padding()
    config = files.config if padding is None else {"pad_token": padding["pad_token"], **files.config}
    _add_tokens(backend, config)
    roles = {role: _text(config[role]) for role in _ROLES if config.get(role) is not None}
    special = SpecialTokens(roles.get("bos_token"), roles.get("eos_token"), roles.get("pad_token"), roles)
    _set_bos_eos(backend, special, files, add_bos_token)
    return backend, special


def _add_tokens(backend: Any, config: Mapping[str, Any]) -> None:
    """Makes the tokens that the configuration names known to the backend, special ones as such."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
    missing = [_added(token) for _, token in listed if _text(token) not in known]
    backend.add_tokens(missing)
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, Mapping) else extra
    declared = {_text(token): token for _, token in listed}
    for token in [config[role] for role in _ROLES if config.get(role) is not None] + extra:
        backend.add_special_tokens([_added(declared.get(_text(token), token))])


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, Mapping) else str(token)


def _added(token: Any) -> Any:
    if not isinstance(token, Mapping):
        return tokenizers.AddedToken(str(token), special=True, normalized=False)
    flags = {
        key: token[key]
        for key in ("single_word", "lstrip", "rstrip", "normalized", "special")
        if key in token
    }
    return tokenizers.AddedToken(token["content"], **flags)


def _set_bos_eos(
    backend: Any, special: SpecialTokens, files: TokenizerFiles, add_bos_token: bool | None
) -> None:
    """Replaces the post-processor where other tokens are asked for than it adds."""
    ids = backend.encode("a").ids
    does = {
        "add_bos_token": special.bos is not None and ids[:1] == [backend.token_to_id(special.bos)],
        "add_eos_token": special.eos is not None and ids[-1:] == [backend.token_to_id(special.eos)],
    }
    asked = {key: files.config[key] for key in does if isinstance(files.config.get(key), bool)}
    if special.bos is None:
        asked.pop("add_bos_token", None)
    if special.eos is None:
        asked.pop("add_eos_token", None)
    if add_bos_token is None and asked.items() <= does.items():
        return
    if add_bos_token is None:
        different = ", ".join(f"{key}={value}" for key, value in asked.items() if does[key] != value)
        warnings.warn(
            f"{files.name!r}: tokenizer_config.json says {different}, its tokenizer.json does otherwise; "
            "the former is followed. Give add_bos_token to decide yourself.",
            stacklevel=4,
        )
    wanted = {**does, **asked}
    if add_bos_token is not None:
        wanted = {"add_bos_token": add_bos_token, "add_eos_token": asked.get("add_eos_token", False)}
    bos = special.bos if wanted["add_bos_token"] else None
    eos = special.eos if wanted["add_eos_token"] else None
    backend.post_processor = _template(backend, bos, eos)


def _template(backend: Any, bos: str | None, eos: str | None) -> Any:
    pieces = [token for token in (bos, "$A", eos) if token is not None]
    named = [(token, backend.token_to_id(token)) for token in (bos, eos) if token is not None]
    return TemplateProcessing(
        single=pieces, pair=[*pieces, "$B:1"], special_tokens=list(dict.fromkeys(named))
    )
