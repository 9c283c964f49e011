"""Arguments of :class:`~windrow.JaxLM` that may be strings, as on a command line."""

import re
from typing import Literal

from windrow.admission import read_whole

Limit = int | Literal["unbounded"] | None


def length_limit(value: int | str | None) -> Limit:
    """A number of tokens, ``"unbounded"``, or ``None`` for the model's own limit."""
    return "unbounded" if value == "unbounded" else read_whole("max_length", value)


def is_auto(size: int | str | None) -> bool:
    """Whether a size depends on device memory: ``"auto"``, or lm_eval's ``"auto:4"``."""
    return isinstance(size, str) and re.fullmatch(r"auto(:\d+(\.\d+)?)?", size) is not None


def batch_sizes(
    batch_size: int | str | None, tokens_per_batch: int | str | None
) -> tuple[int | None, int | Literal["auto"] | None]:
    """Rows and tokens per batch; ``batch_size="auto"`` means ``"auto"`` tokens, unless those are given."""
    rows = None if is_auto(batch_size) else read_whole("batch_size", batch_size)
    if is_auto(tokens_per_batch) or (tokens_per_batch in (None, "None") and is_auto(batch_size)):
        return rows, "auto"
    return rows, read_whole("tokens_per_batch", tokens_per_batch)


def share_mode(value: bool | str) -> bool | str:
    """The policy's ``share``, possibly given as a string."""
    if isinstance(value, str) and value.lower() in ("auto", "trees", "forks", "equal"):
        return value.lower()
    try:
        return flag("share", value) and "auto"
    except ValueError:
        raise ValueError(f"share must be 'auto', 'trees', 'forks', 'equal' or False, not {value!r}") from None


def pack_mode(value: bool | str) -> bool | str:
    """The policy's ``pack``, possibly given as a string."""
    if isinstance(value, str) and value.lower() == "auto":
        return "auto"
    try:
        return flag("pack", value)
    except ValueError:
        raise ValueError(f"pack must be 'auto', True or False, not {value!r}") from None


def flag(name: str, value: bool | str | int) -> bool:
    """A boolean, possibly given as a string."""
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
