"""A ``tokenizer.json`` as the class that transformers 5.24 takes it for rebuilds it.

```text
text                        "<s>[INST] cow"             " cow"
tokenizer.json              <s> ▁[INST] ▁cow            ▁▁cow
LlamaTokenizer              <s> [INST] ▁cow             ▁cow
```
"""

import json
import warnings
from dataclasses import dataclass, replace
from typing import Any

from windrow.tokens.classes import class_of
from windrow.tokens.recipes import RECIPES, Json, Recipe
from windrow.tokens.registered import GENERIC
from windrow.tokens.source import TokenizerFiles

_COMPONENTS = ("normalizer", "pre_tokenizer", "decoder")

_DEFAULTS: Json = {"continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False}
_DEFAULTS |= {"byte_fallback": False, "ignore_merges": False, "dropout": None}


@dataclass(frozen=True)
class Taken:
    """What becomes of a tokenizer's files.

    Attributes:
        files: The files, rebuilt where the class does that.
        class_name: The class.
        recipe: How the class builds its tokenizer; ``None`` where ``tokenizer.json`` counts as it is.
        replaced: The parts of ``tokenizer.json`` that the class replaces by others.
        added: The added tokens of the file, by their ids, where the class forgets them at first.
    """

    files: TokenizerFiles
    class_name: str = GENERIC
    recipe: Recipe | None = None
    replaced: tuple[str, ...] = ()
    added: dict[int, Any] | None = None


def as_transformers_takes(files: TokenizerFiles) -> Taken:
    """The files as their class takes them."""
    name = class_of(files)
    recipe = RECIPES.get(name)
    if recipe is None:
        if name != GENERIC:
            _warn_of_class(files.name, name, "is not known here")
        return Taken(files)
    try:
        tokenizer = json.loads(files.json)
        vocab = _vocab(tokenizer["model"]["vocab"], recipe)
    except (ValueError, TypeError, KeyError):
        return Taken(files)  # whoever builds it says what is wrong
    if vocab is None:
        _warn_of_class(files.name, name, "cannot be built of this kind of vocabulary")
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
    """Says once where the class departs from ``tokenizer.json``."""
    parts = [*taken.replaced, *(["post_processor"] if post_processor else [])]
    if parts:
        warnings.warn(
            f"{taken.files.name!r}: transformers loads this tokenizer as {taken.class_name}, which replaces "
            f"the {', '.join(parts)} of its tokenizer.json; windrow does the same. To use the file as it "
            "is, pass tokenizers.Tokenizer.from_file(...) as the tokenizer.",
            stacklevel=6,
        )


def _warn_of_class(source: str, name: str, why: str) -> None:
    warnings.warn(
        f"{source!r}: transformers loads this tokenizer as {name}, which {why}; "
        "tokenizer.json is used as it is, so ids may differ.",
        stacklevel=6,
    )


def _vocab(vocab: Any, recipe: Recipe) -> Any:
    """The vocabulary in the form that the class's model has; ``None`` if there is no way to it."""
    if recipe.kind == "Unigram":
        return vocab if isinstance(vocab, list) else None
    if isinstance(vocab, list):
        return {piece[0] if isinstance(piece, list) else piece: id for id, piece in enumerate(vocab)}
    return vocab


def _completed(config: Json, recipe: Recipe) -> Json:
    """The configuration with what the class says where it does not."""
    config = {**recipe.tokens, **config}
    told = "additional_special_tokens" in config or isinstance(config.get("extra_special_tokens"), list)
    if recipe.extra and not told:
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
    """SentencePiece's table of replaced characters, if the file's normalizer has one."""
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    tables = (step.get("precompiled_charsmap") for step in steps if step.get("type") == "Precompiled")
    return next(tables, None)


def _options(model: Json) -> Json:
    """What decides how a model cuts text, but for its vocabulary and the unknown token."""
    names = ["type", *_DEFAULTS, *(["unk_id"] if model.get("type") == "Unigram" else [])]
    return {name: model.get(name) or None for name in names}


def _plain(component: Any) -> Any:
    """A component in a form that is the same where its effect is."""
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
