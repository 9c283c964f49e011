"""Builds a tokenizer of the ``tokenizers`` package, and completes it as transformers does.

A ``tokenizer.json``, rebuilt if its class does so, is completed by its ``tokenizer_config.json``: tokens
listed there replace those of ``tokenizer.json``, and special tokens named there are added. The file's
``add_bos_token`` is ignored; only the argument counts. Stored truncation and padding settings are ignored.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing

from windrow.tokens.parts import Parts, sane_limit
from windrow.tokens.rebuilt import Taken, as_transformers_takes, warn_of_replaced
from windrow.tokens.recipes import Recipe
from windrow.tokens.source import TokenizerFiles
from windrow.warning import warn

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

_SAVED_ROLES = "model_specific_special_tokens"
"""Where transformers 5 saves the tokens with roles specific to a model."""

_CLEAN_UP_BPE = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"

_CLEAN_UP = (
    *((f" {end}", end) for end in (".", "?", "!", ",")),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)
"""The replacements of ``clean_up_tokenization_spaces``, in order."""


def backend_parts(files: TokenizerFiles, add_bos_token: bool | None) -> Parts:
    """Builds the tokenizer that ``files`` describe.

    Raises:
        ValueError: The file is not JSON, has a component that the ``tokenizers`` package does not know, or
            uses dropout.
    """
    taken = as_transformers_takes(files)
    files = taken.files
    backend = _build(files)
    padding = backend.padding
    backend.no_truncation()
    backend.no_padding()
    config = files.config if padding is None else {"pad_token": padding["pad_token"], **files.config}
    _add_tokens(backend, config, taken)
    texts = {role: _text(token) for role, token in _named(config).items()}
    _set_post_processor(backend, texts, taken, add_bos_token)
    cleans = bool(config.get("clean_up_tokenization_spaces")) and (
        type(backend.model).__name__ != "BPE" or bool(config.get(_CLEAN_UP_BPE))
    )

    def encode(given: list[str], add_special_tokens: bool) -> list[list[int] | str]:
        try:
            encodings = backend.encode_batch_fast(given, add_special_tokens=add_special_tokens)
        except BaseException as error:
            # A panic in Rust becomes a PanicException, which is not an Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            if len(given) > 1:
                return [encode([text], add_special_tokens)[0] for text in given]
            return [
                f"the tokenizers package failed on a text ({error}); a possible cause is an added token "
                "that strips white space belonging to another added token"
            ]
        return [encoding.ids for encoding in encodings]

    def decode(tokens: Sequence[int], skip_special_tokens: bool) -> str:
        text: str = backend.decode(tokens, skip_special_tokens=skip_special_tokens)
        return _clean_up(text) if cleans else text

    splits = bool(config.get("split_special_tokens"))
    backend.encode_special_tokens = splits
    json = backend.to_str()
    return Parts(
        name=files.name,
        vocab_size=backend.get_vocab_size(with_added_tokens=True),
        encode=encode,
        decode=decode,
        identity=json + " split" * splits,
        json=None if splits else json,  # the JSON cannot express it
        added_tokens=[token.content for _, token in sorted(backend.get_added_tokens_decoder().items())],
        ids={role: backend.token_to_id(text) for role, text in texts.items()},
        texts=texts,
        chat_template=files.chat_template,
        model_max_length=sane_limit(config.get("model_max_length")),
    )


def _build(files: TokenizerFiles) -> Any:
    try:
        backend = tokenizers.Tokenizer.from_str(files.json)
    except Exception as error:  # the package raises nothing more specific
        raise ValueError(f"tokenizer {files.name!r} cannot be loaded: {error}") from error
    if getattr(backend.model, "dropout", None):
        raise ValueError(
            f"tokenizer {files.name!r} has a dropout of {backend.model.dropout}, which makes encoding "
            "random; set it to null in tokenizer.json"
        )
    return backend


def _add_tokens(backend: Any, config: Mapping[str, Any], taken: Taken) -> None:
    """Adds the tokens of the configuration to the backend, as transformers 5 does.

    A listed token replaces the backend's own. A token that is only named is added as a special token if the
    backend lacks it; otherwise, the backend's own is kept, unless the class adds it again.
    """
    known = backend.get_added_tokens_decoder()
    listed = [_added(token) for _, token in sorted(_listed(config, taken.added or known), key=itemgetter(0))]
    there = {token.content: token for token in (*known.values(), *listed)}
    named, extra = _named(config).values(), _extra(config)
    new = [token for token in (*named, *extra) if _text(token) not in there]
    roles = {_text(token) for token in named}
    added = [*listed, *map(_added, new)]
    for token in added:
        token.special = token.special or token.content in roles
    backend.add_tokens(added)
    again = taken.recipe.again if taken.recipe else None
    if again == "bare":
        backend.add_tokens([tokenizers.AddedToken(_text(token), special=True) for token in (*named, *extra)])
    elif again == "special":
        backend.add_special_tokens([there.get(_text(token), _added(token)) for token in (*named, *extra)])


def _listed(config: Mapping[str, Any], known: Mapping[int, Any]) -> list[tuple[int, Any]]:
    """The listed tokens with their ids: from the configuration, else from older files and the backend."""
    if "added_tokens_decoder" in config:
        return [(int(id), token) for id, token in config["added_tokens_decoder"].items()]
    special = {_text(token) for token in (*_named(config).values(), *_extra(config))}
    older = {
        id: {"content": text, "special": text in special, "normalized": text not in special}
        for text, id in (config.get("added_tokens") or {}).items()
    }
    return [*{**older, **known}.items()]


def _named(config: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens by role, including roles specific to this model, such as ``image_token``."""
    roles = {role: config.get(role) for role in _ROLES}
    own = {
        key: token
        for key, token in config.items()
        if key.endswith("_token") and key not in _ROLES and isinstance(token, str | Mapping)
    }
    extra = config.get("extra_special_tokens")
    own |= extra if isinstance(extra, Mapping) else {}
    own = own or config.get(_SAVED_ROLES) or {}
    return {role: token for role, token in (roles | own).items() if token is not None}


def _extra(config: Mapping[str, Any]) -> Sequence[Any]:
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    return [] if isinstance(extra, Mapping) else extra


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, Mapping) else str(token)


def _added(token: Any) -> Any:
    if isinstance(token, Mapping):
        return tokenizers.AddedToken(
            token["content"], **{flag: token[flag] for flag in _FLAGS if flag in token}
        )
    if isinstance(token, tokenizers.AddedToken):
        return token
    return tokenizers.AddedToken(str(token), special=True)


def _set_post_processor(
    backend: Any, texts: Mapping[str, str], taken: Taken, add_bos_token: bool | None
) -> None:
    """Replaces the post-processor if the class has its own or ``add_bos_token`` is set."""
    before = _around(backend)
    recipe = taken.recipe
    template = recipe.template if recipe else None
    bos = add_bos_token if add_bos_token is not None or recipe is None else recipe.bos
    asked = add_bos_token is not None or backend.post_processor is None
    if template and recipe and _keeps_template(recipe, backend.post_processor is None, asked):
        _set_template(backend, texts, template)
    elif bos is not None:
        _set_template(backend, texts, ("bos_token", "$A") if bos and "bos_token" in texts else ("$A",))
    else:
        _warn_of_others(backend, texts, taken.files)
    warn_of_replaced(taken, add_bos_token is None and before is not None and _around(backend) != before)


def _keeps_template(recipe: Recipe, absent: bool, asked: bool) -> bool:
    """Whether a class's template applies: some classes keep the file's, some replace it again."""
    return (recipe.template_counts or absent) and not (recipe.again == "special" and asked)


def _around(backend: Any) -> list[int] | None:
    """The ids that the post-processor puts around a text; ``None`` without a post-processor."""
    return (
        None if backend.post_processor is None else backend.post_processor.process(tokenizers.Encoding()).ids
    )


def _set_template(backend: Any, texts: Mapping[str, str], template: Sequence[str]) -> None:
    """Sets the tokens around a text, given as roles next to ``"$A"``."""
    pieces = [texts.get(piece, piece) for piece in template]
    known = {piece: backend.token_to_id(piece) for piece in pieces if piece != "$A"}
    backend.post_processor = TemplateProcessing(
        single=pieces, pair=[*pieces, "$B:1"], special_tokens=[*known.items()]
    )


def _warn_of_others(backend: Any, texts: Mapping[str, str], files: TokenizerFiles) -> None:
    """Warns about configuration settings that transformers 5 ignores but older versions may follow."""
    ids = backend.encode("a").ids
    ends = {"bos_token": ids[:1], "eos_token": ids[-1:]}
    does = {role: role in texts and ends[role] == [backend.token_to_id(texts[role])] for role in ends}
    asked = {role: files.config.get(f"add_{role}") for role in ends if role in texts}
    other = [
        f"add_{role}={wish}" for role, wish in asked.items() if isinstance(wish, bool) and wish != does[role]
    ]
    if other:
        warn(
            f"{files.name!r}: tokenizer_config.json says {', '.join(other)}, but tokenizer.json disagrees "
            "and takes precedence, as in transformers 5. Set add_bos_token to override it."
        )


def _clean_up(text: str) -> str:
    for spaced, tight in _CLEAN_UP:
        text = text.replace(spaced, tight)
    return text
