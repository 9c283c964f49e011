"""Reads a ``config.json`` field by field.

A family's module reads each field that affects the model's class in transformers. Other fields are ignored,
as in transformers, except for a few that affect every class: these are rejected unless they have no effect.

>>> fields = Fields({"model_type": "x", "width": 4, "twist": 0.5}, Path("config.json"))
>>> fields.size("width")
4
>>> Fields({"quantization_config": {"bits": 4}}, Path("config.json")).refuse_unknown_changes()
Traceback (most recent call last):
    ...
ValueError: config.json: the checkpoint is quantized (field 'quantization_config'), which is not \
supported; load the model yourself with factory=module:function
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from windrow.admission import admit_whole

DEFAULT_MAX_LENGTH = 2048
"""The length limit of a checkpoint if neither its configuration nor its tokenizer has one, as in HFLM."""

WAY_OUT = "load the model yourself with factory=module:function"

BRIDGE = (
    f"{WAY_OUT}; examples/any_hf.py in windrow's repository does that for any causal model in "
    "transformers (see 'Any other transformers model' in the guide)"
)
"""The alternative for models that transformers can run but windrow cannot."""

_REQUIRED: Any = object()

_CHANGES = ("per_layer_config",)
"""Fields that affect every class in transformers, unless they are empty."""

_LENGTH_FIELDS = ("n_positions", "max_position_embeddings", "n_ctx")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; anything else is a ``ValueError`` that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def stated_max_length(config: Mapping[str, Any]) -> int | None:
    """The length limit in a configuration, or in its text configuration if it has one.

    The order is that of lm_eval's Hugging Face backend: ``n_positions``,
    ``max_position_embeddings``, ``n_ctx``.

    >>> stated_max_length({"n_ctx": 3, "max_position_embeddings": 7})
    7
    >>> stated_max_length({"n_positions": 5, "text_config": {"n_ctx": 3}})
    3
    """
    text = config.get("text_config") or config
    for name in _LENGTH_FIELDS:
        if (value := text.get(name)) is not None:
            return int(value)
    return None


class Fields:
    """The fields of a ``config.json``, read by type."""

    def __init__(self, values: Mapping[str, Any], path: Path, positions: int = DEFAULT_MAX_LENGTH) -> None:
        self.path = path
        self._values = values
        self._positions = positions

    @property
    def positions(self) -> int:
        """``max_position_embeddings``, or the default of the model's class."""
        return self.size("max_position_embeddings", self._positions)

    def __contains__(self, name: str) -> bool:
        """Whether the file has the field, even if it is null."""
        return name in self._values

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The field's value; ``default`` if it is absent or null."""
        value = self._values.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ValueError(f"{self.path}: the field {name!r} is missing")
        return default

    def size(self, name: str, default: Any = _REQUIRED, *, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        return admit_whole(f"{self.path}: {name!r}", self.take(name, default), least)

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A number above 0."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{self.path}: {name!r} must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.path}: {name!r} must be true or false, not {value!r}")
        return value

    def choice(self, name: str, known: Collection[Any], default: Any = _REQUIRED) -> Any:
        """One of ``known``; anything else is an error."""
        value = self.take(name, default)
        if value not in known:
            listed = ", ".join(str(each) for each in known)
            raise ValueError(f"{self.path}: {name!r} is {value!r}; known: {listed}. Otherwise {BRIDGE}")
        return value

    def refuse_unknown_changes(self) -> None:
        """Rejects fields that affect every class in transformers."""
        quantized = self._values.get("quantization_config")
        if quantized:
            method = quantized.get("quant_method", "") if isinstance(quantized, Mapping) else ""
            raise ValueError(
                f"{self.path}: the checkpoint is quantized{method and f' ({method})'} (field "
                f"'quantization_config'), which is not supported; {WAY_OUT}"
            )
        for name in filter(self._values.get, _CHANGES):
            raise ValueError(
                f"{self.path}: the field {name!r} ({self._values[name]!r}) changes the computation "
                f"and is not supported; {BRIDGE}"
            )
