"""Finds the model of :class:`~windrow.JaxLM`: an argument, a checkpoint, or the result of a factory."""

from pathlib import Path
from typing import Any

from windrow.harness.arguments import Limit
from windrow.harness.factory import call_factory
from windrow.model import LanguageModel, admit_model
from windrow.models.config import DEFAULT_MAX_LENGTH


def find_model(
    model: LanguageModel | str | None,
    tokenizer: Any,
    pretrained: str | None,
    factory: str | None,
    subfolder: str = "",
    revision: str | None = None,
    token: str | None = None,
) -> tuple[LanguageModel | None, Any, str]:
    """The model (``None`` for a checkpoint), the source of its tokenizer, and a name for both."""
    if isinstance(model, str):
        if factory not in (None, model):
            raise ValueError(f"model={model!r} and factory={factory!r} name different functions; give one")
        model, factory = None, model
    if sum(one is not None for one in (model, pretrained, factory)) != 1:
        raise ValueError(
            "give one of model (with tokenizer), pretrained=DIRECTORY or factory=module:function"
        )
    if pretrained is not None:
        from windrow.models.loading import check_config

        directory = str(Path(pretrained, subfolder)) if subfolder else pretrained
        if Path(directory).is_dir():
            check_config(directory)
        else:
            directory = _fetch(pretrained, directory, subfolder, revision, token)
        if isinstance(tokenizer, str) and subfolder and Path(tokenizer, subfolder).is_dir():
            tokenizer = str(Path(tokenizer, subfolder))
        return None, tokenizer or directory, directory
    if factory is not None:
        model, made = call_factory(factory)
        return model, made if tokenizer is None else tokenizer, factory
    model = admit_model(model)
    if tokenizer is None:
        raise ValueError(
            "tokenizer is missing: give a path, a tokenizers.Tokenizer, or anything with encode()"
        )
    return model, tokenizer, "LanguageModel"


def _fetch(pretrained: str, directory: str, subfolder: str, revision: str | None, token: str | None) -> str:
    from windrow.models.hub import fetch, is_name

    if Path(pretrained).exists() or not is_name(pretrained):
        raise ValueError(
            f"pretrained must be a directory in the Hugging Face format, or a name on the Hub; {directory!r} "
            "is not a directory"
        )
    return str(fetch(pretrained, revision=revision, subfolder=subfolder, token=token))


def load_checkpoint(
    directory: str, dtype: Any, mesh: Any, limit: Limit, tokenizer_limit: int | None
) -> LanguageModel:
    """Loads a checkpoint's model onto a mesh, with HFLM's length limit unless another is given."""
    from windrow.models import config_max_length, load

    if limit is None:
        limit = config_max_length(directory) or tokenizer_limit or DEFAULT_MAX_LENGTH
    return load(directory, dtype=dtype, mesh=mesh, max_length=limit, retie=True)


def within_limit(model: LanguageModel, asked: Limit) -> int | None:
    """The maximum input length: the model's own limit, or a lower one if given."""
    own = model.max_length
    if own is not None and asked is not None and (asked == "unbounded" or asked > own):
        raise ValueError(
            f"max_length={asked!r} exceeds the model's limit of {own} tokens; lower it, or give the "
            "LanguageModel a larger max_length, or None if it has no limit"
        )
    return own if asked is None else None if asked == "unbounded" else asked
