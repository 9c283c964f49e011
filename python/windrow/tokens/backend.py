"""A tokenizer of the ``tokenizers`` package, finished the way transformers finishes it.

A ``tokenizer.json`` is completed by its ``tokenizer_config.json``: the special tokens
named there are made special, and ``add_bos_token`` decides whether a BOS token is put
before each text. Truncation and padding that happen to be stored are dropped.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing

from windrow.tokens.parts import Parts, sane_limit
from windrow.tokens.source import TokenizerFiles

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

_CLEAN_UP = (
    *((f" {end}", end) for end in (".", "?", "!", ",")),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)
"""What ``clean_up_tokenization_spaces`` replaces, in this order."""


def backend_parts(files: TokenizerFiles, add_bos_token: bool | None) -> Parts:
    """Builds the tokenizer that ``files`` describe.

    Raises:
        ValueError: The file is not JSON, has a component that the ``tokenizers`` package does not know, or
            encodes at random.
    """
    backend = _build(files)
    padding = backend.padding
    backend.no_truncation()
    backend.no_padding()
    config = files.config if padding is None else {"pad_token": padding["pad_token"], **files.config}
    _add_tokens(backend, config)
    texts = {role: _text(config[role]) for role in _ROLES if config.get(role) is not None}
    _set_bos_eos(backend, texts, files, add_bos_token)
    cleans = config.get("clean_up_tokenization_spaces") is True and type(backend.model).__name__ != "BPE"

    def encode(given: list[str], add_special_tokens: bool) -> list[list[int]]:
        encodings = backend.encode_batch_fast(given, add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def decode(tokens: Sequence[int], skip_special_tokens: bool) -> str:
        text: str = backend.decode(tokens, skip_special_tokens=skip_special_tokens)
        return _clean_up(text) if cleans else text

    json = backend.to_str()
    return Parts(
        name=files.name,
        vocab_size=backend.get_vocab_size(with_added_tokens=True),
        encode=encode,
        decode=decode,
        identity=json,
        json=json,
        added_tokens=[token.content for _, token in sorted(backend.get_added_tokens_decoder().items())],
        ids={role: backend.token_to_id(text) for role, text in texts.items()},
        texts=texts,
        chat_template=files.chat_template,
        model_max_length=sane_limit(config.get("model_max_length")),
    )


def _build(files: TokenizerFiles) -> Any:
    try:
        backend = tokenizers.Tokenizer.from_str(files.json)
    except Exception as error:  # the package raises nothing more special
        raise ValueError(f"source {files.name!r} is not a tokenizer that can be built: {error}") from error
    if getattr(backend.model, "dropout", None):
        raise ValueError(
            f"source {files.name!r} has a dropout of {backend.model.dropout}, so that it encodes texts "
            "at random; set it to null in tokenizer.json"
        )
    return backend


def _add_tokens(backend: Any, config: Mapping[str, Any]) -> None:
    """Makes the tokens that the configuration names known to the backend, special ones as such."""
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
    backend.add_tokens([_added(token) for _, token in listed if _text(token) not in known])
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, Mapping) else extra
    # How a token is found in a text is said where tokens are listed, else in tokenizer.json.
    declared = {_text(token): token for _, token in listed} or known
    roles = [config[role] for role in _ROLES if config.get(role) is not None]
    backend.add_special_tokens([_added(declared.get(_text(token), token)) for token in (*roles, *extra)])


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, Mapping) else str(token)


def _added(token: Any) -> Any:
    if isinstance(token, Mapping):
        return tokenizers.AddedToken(
            token["content"], **{flag: token[flag] for flag in _FLAGS if flag in token}
        )
    if isinstance(token, tokenizers.AddedToken):
        return token
    return tokenizers.AddedToken(str(token), special=True, normalized=False)


def _set_bos_eos(
    backend: Any, texts: Mapping[str, str], files: TokenizerFiles, add_bos_token: bool | None
) -> None:
    """Replaces the post-processor where other tokens are asked for than it adds."""
    ids = backend.encode("a").ids
    ends = {"bos_token": ids[:1], "eos_token": ids[-1:]}
    does = {role: role in texts and ends[role] == [backend.token_to_id(texts[role])] for role in ends}
    asked = {role: files.config.get(f"add_{role}") for role in ends if role in texts}
    asked = {role: wish for role, wish in asked.items() if isinstance(wish, bool)}
    if add_bos_token is not None:
        wanted = {"bos_token": add_bos_token, "eos_token": asked.get("eos_token", False)}
    elif asked.items() <= does.items():
        return
    else:
        wanted = {**does, **asked}
        different = ", ".join(f"add_{role}={wish}" for role, wish in asked.items() if does[role] != wish)
        warnings.warn(
            f"{files.name!r}: tokenizer_config.json says {different}, its tokenizer.json does otherwise; "
            "the former is followed. Give add_bos_token to decide yourself.",
            stacklevel=4,
        )
    bos, eos = (texts.get(role) if wanted[role] else None for role in ("bos_token", "eos_token"))
    backend.post_processor = _template(backend, bos, eos)


def _template(backend: Any, bos: str | None, eos: str | None) -> Any:
    pieces = [token for token in (bos, "$A", eos) if token is not None]
    named = {token: backend.token_to_id(token) for token in (bos, eos) if token is not None}
    return TemplateProcessing(single=pieces, pair=[*pieces, "$B:1"], special_tokens=list(named.items()))


def _clean_up(text: str) -> str:
    for spaced, tight in _CLEAN_UP:
        text = text.replace(spaced, tight)
    return text
