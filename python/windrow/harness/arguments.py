"""What :class:`~windrow.JaxLM` is made from: its model, and arguments that may be strings."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from windrow.model import LanguageModel
from windrow.models.config import DEFAULT_MAX_LENGTH

Limit = int | Literal["unbounded"] | None


def find_model(
    model: LanguageModel | str | None, tokenizer: Any, pretrained: str | None, factory: str | None
) -> tuple[LanguageModel | None, Any, str]:
    """The model, unless it is a checkpoint; what its tokenizer is loaded from; where both came from."""
    if isinstance(model, str):
        if factory not in (None, model):
            raise ValueError(f"model and factory name two functions, {model!r} and {factory!r}; give one")
        model, factory = None, model
    if sum(one is not None for one in (model, pretrained, factory)) != 1:
        raise ValueError(
            "give one of model (with tokenizer), pretrained=DIRECTORY and factory=module:function"
        )
    if pretrained is not None:
        if not Path(pretrained).is_dir():
            raise ValueError(
                f"pretrained must be a directory in the Hugging Face format; {pretrained!r} is none"
            )
        return None, tokenizer or pretrained, pretrained
    if factory is not None:
        model, made = _call_factory(factory)
        return model, made if tokenizer is None else tokenizer, factory
    if not isinstance(model, LanguageModel):
        raise TypeError(f"model must be a windrow.LanguageModel, not {type(model).__name__}")
    if tokenizer is None:
        raise ValueError(
            "tokenizer is missing: give a path, a tokenizers.Tokenizer, or anything with encode()"
        )
    return model, tokenizer, "LanguageModel"


def load_checkpoint(
    directory: str, dtype: str, mesh: Any, limit: Limit, tokenizer_limit: int | None
) -> LanguageModel:
    """The checkpoint's model on a mesh, with HFLM's limit unless another is asked for."""
    from windrow.models import config_max_length, load

    if limit is None:
        limit = config_max_length(directory) or tokenizer_limit or DEFAULT_MAX_LENGTH
    return load(directory, dtype=dtype, mesh=mesh, max_length=limit)


def length_limit(value: int | str | None) -> Limit:
    """A number of tokens, ``"unbounded"``, or ``None`` where the model's own limit holds."""
    return "unbounded" if value == "unbounded" else integer("max_length", value)


def within_limit(model: LanguageModel, asked: Limit) -> int | None:
    """The most tokens the model may see at once: its own limit, or a lower one that is asked for."""
    own = model.max_length
    if own is not None and asked is not None and (asked == "unbounded" or asked > own):
        raise ValueError(
            f"max_length is {asked!r}, but the model can see only {own} tokens; give at most that, or a "
            "LanguageModel whose own max_length is larger, or None where it has no limit"
        )
    return own if asked is None else None if asked == "unbounded" else asked


def _call_factory(factory: str) -> tuple[LanguageModel, Any]:
    module, separator, function = factory.partition(":")
    if not separator:
        raise ValueError(f"factory must be module:function, not {factory!r}")
    try:
        make = getattr(import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(
            f"factory {factory} cannot be found: {error}; is its folder on PYTHONPATH?"
        ) from error
    made = make()
    if not (isinstance(made, Sequence) and len(made) == 2 and isinstance(made[0], LanguageModel)):
        raise TypeError(
            f"factory {factory} must return (LanguageModel, tokenizer), not {type(made).__name__}"
        )
    return made[0], made[1]


def is_auto(size: int | str | None) -> bool:
    """Whether a size is left to the memory of the devices: ``"auto"``, and lm_eval's ``"auto:4"``."""
    return isinstance(size, str) and re.fullmatch(r"auto(:\d+(\.\d+)?)?", size) is not None


def batch_sizes(
    batch_size: int | str | None, tokens_per_batch: int | str | None
) -> tuple[int | None, int | Literal["auto"] | None]:
    """Rows and tokens a batch; ``"auto"`` tokens where either is, and nothing else is said."""
    rows = None if is_auto(batch_size) else integer("batch_size", batch_size)
    if is_auto(tokens_per_batch) or (tokens_per_batch in (None, "None") and is_auto(batch_size)):
        return rows, "auto"
    return rows, integer("tokens_per_batch", tokens_per_batch)


def integer(name: str, value: int | str | None, least: int = 1) -> int | None:
    """A whole number, perhaps as a string; ``None`` where none is given."""
    if value is None or value == "None":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return number


def flag(name: str, value: bool | str | int) -> bool:
    """True or false, perhaps as a string."""
    flags = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in flags:
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return flags[str(value).lower()]


def bad_request(value: str) -> Literal["raise", "skip"]:
    """What to do with a request that cannot be scored."""
    if value == "raise":
        return "raise"
    if value == "skip":
        return "skip"
    raise ValueError(f"on_bad_request must be 'raise' or 'skip', not {value!r}")
