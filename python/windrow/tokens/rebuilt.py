"""Rebuilds a ``tokenizer.json`` as its class in transformers 5.24 does.

```text
text                        "<s>[INST] cow"             " cow"
tokenizer.json              <s> ▁[INST] ▁cow            ▁▁cow
LlamaTokenizer              <s> [INST] ▁cow             ▁cow
```
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from windrow.tokens.classes import class_of
from windrow.tokens.recipes import RECIPES, Json, Recipe
from windrow.tokens.registered import GENERIC
from windrow.tokens.source import TokenizerFiles
from windrow.warning import warn

_COMPONENTS = ("normalizer", "pre_tokenizer", "decoder")

_DEFAULTS: Json = {"continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False}
_DEFAULTS |= {"byte_fallback": False, "ignore_merges": False, "dropout": None}


@dataclass(frozen=True)
class Taken:
    """A tokenizer's files as its class uses them.

    Attributes:
        files: The files, rebuilt if the class does that.
        class_name: The class.
        recipe: How the class builds its tokenizer; ``None`` if it uses ``tokenizer.json`` unchanged.
        replaced: The parts of ``tokenizer.json`` that the class replaces.
        added: The file's added tokens by id, if the class drops them at first.
    """

    files: TokenizerFiles
    class_name: str = GENERIC
    recipe: Recipe | None = None
    replaced: tuple[str, ...] = ()
    added: dict[int, Any] | None = None


def as_transformers_takes(files: TokenizerFiles) -> Taken:
    """The files as their class uses them."""
    name = class_of(files)
    recipe = RECIPES.get(name)
    if recipe is None:
        if name != GENERIC:
            _warn_of_class(files.name, name, "windrow does not know")
        return Taken(files)
    try:
        tokenizer = json.loads(files.json)
        vocab = _vocab(tokenizer["model"]["vocab"], recipe)
    except (ValueError, TypeError, KeyError):
        return Taken(files)  # building it will raise a clear error
    if vocab is None:
        _warn_of_class(files.name, name, "cannot be built from this kind of vocabulary")
        return Taken(files)
    config = _completed(files.config, recipe)
    rebuilt = _rebuilt(tokenizer, vocab, recipe, config)
    replaced = [part for part in _COMPONENTS if _plain(tokenizer.get(part)) != _plain(rebuilt[part])]
    if _options(tokenizer["model"]) != _options(rebuilt["model"]):
        replaced.insert(0, "model")
    added = {token["id"]: token for token in tokenizer.get("added_tokens", [])}
    return Taken(
        replace(files, json=json.dumps(rebuilt), config=config), name, recipe, tuple(replaced), added
    )


def warn_of_replaced(taken: Taken, post_processor: bool) -> None:
    """Warns once about the parts of ``tokenizer.json`` that the class replaces."""
    parts = [*taken.replaced, *(["post_processor"] if post_processor else [])]
    if parts:
        warn(
            f"{taken.files.name!r}: transformers loads this tokenizer as {taken.class_name}, which replaces "
            f"the {', '.join(parts)} of its tokenizer.json; windrow does the same. To use the file "
            "unchanged, pass tokenizers.Tokenizer.from_file(...) as the tokenizer."
        )


def _warn_of_class(source: str, name: str, why: str) -> None:
    warn(
        f"{source!r}: transformers loads this tokenizer as {name}, which {why}; "
        "tokenizer.json is used unchanged, so ids may differ."
    )


def _vocab(vocab: Any, recipe: Recipe) -> Any:
    """The vocabulary in the form of the class's model; ``None`` if it cannot be converted."""
    if recipe.kind == "Unigram":
        return vocab if isinstance(vocab, list) else None
    if isinstance(vocab, list):
        return {piece[0] if isinstance(piece, list) else piece: id for id, piece in enumerate(vocab)}
    return vocab


def _completed(config: Json, recipe: Recipe) -> Json:
    """The configuration, completed with the defaults of the class."""
    config = {**recipe.tokens, **config}
    given = "additional_special_tokens" in config or isinstance(config.get("extra_special_tokens"), list)
    if recipe.extra and not given:
        config["additional_special_tokens"] = list(recipe.extra)
    mask = config.get("mask_token")
    if recipe.strips_mask and isinstance(mask, str):
        config["mask_token"] = {"content": mask, "lstrip": True}
    return config


def _rebuilt(tokenizer: Json, vocab: Any, recipe: Recipe, config: Json) -> Json:
    pipeline = recipe.pipeline(config, _charsmap(tokenizer.get("normalizer")))
    return {
        **tokenizer,
        "added_tokens": [],
        **dict(zip(_COMPONENTS, pipeline, strict=True)),
        "model": _model(tokenizer["model"], vocab, recipe, config),
    }


def _model(model: Json, vocab: Any, recipe: Recipe, config: Json) -> Json:
    unknown = config.get("unk_token")
    unknown = unknown["content"] if isinstance(unknown, dict) else str(unknown)
    if recipe.kind == "Unigram":
        pieces = [piece for piece, *_ in vocab]
        id = recipe.options.get("unk_id", 0)
        if recipe.unknown and unknown in pieces:
            id = pieces.index(unknown)
        return {"type": "Unigram", "unk_id": id, "vocab": vocab, "byte_fallback": False}
    if recipe.kind == "WordPiece":
        longest = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
        return {"type": "WordPiece", "unk_token": unknown, **longest, "vocab": vocab}
    named = unknown if recipe.unknown else None
    merges = model.get("merges", [])
    return {
        "type": "BPE",
        **_DEFAULTS,
        "unk_token": named,
        **recipe.options,
        "vocab": vocab,
        "merges": merges,
    }


def _charsmap(normalizer: Any) -> str | None:
    """SentencePiece's character map, if the file's normalizer has one."""
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    tables = (step.get("precompiled_charsmap") for step in steps if step.get("type") == "Precompiled")
    return next(tables, None)


def _options(model: Json) -> Json:
    """The options that affect how a model splits text, except its vocabulary and unknown token."""
    names = ["type", *_DEFAULTS, *(["unk_id"] if model.get("type") == "Unigram" else [])]
    return {name: model.get(name) or None for name in names}


def _plain(component: Any) -> Any:
    """A component in canonical form: equal for components with the same effect."""
    if isinstance(component, list):
        return [_plain(each) for each in component]
    if not isinstance(component, dict):
        return component
    steps = next((value for value in component.values() if isinstance(value, list)), None)
    if component.get("type") == "Sequence" and steps is not None:
        return _plain(steps[0]) if len(steps) == 1 else ["Sequence", *_plain(steps)]
    defaults: dict[str, Json] = {
        "ByteLevel": {"use_regex": True},
        "Metaspace": {"prepend_scheme": "always", "split": True},
    }
    skipped = {
        "trim_offsets",
        "str_rep",
        *(["add_prefix_space"] if component.get("type") == "Metaspace" else []),
    }
    return {
        **defaults.get(str(component.get("type")), {}),
        **{k: v for k, v in component.items() if k not in skipped},
    }
