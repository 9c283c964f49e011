"""Reads the tensors of a directory in the Hugging Face format, slice by slice.

A checkpoint is ``model.safetensors``, or shards listed in
``model.safetensors.index.json``. Files are memory-mapped: opening one reads its header,
and reading a slice reads only the bytes of the slice.

    directory/
      model.safetensors.index.json    {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
      model-1.safetensors             a: float32[4, 2]
      model-2.safetensors             b: float32[3]

    Checkpoint(directory).read("a", (slice(0, 2), slice(0, 2)))    ->    float32[2, 2]
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy the bfloat16 that safetensors asks it for)
import numpy as np
from safetensors import SafetensorError, safe_open

from windrow.models.config import read_json

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FLOATS = ("F32", "BF16", "F16", "F64")


class Checkpoint:
    """Tensors by name.

    Args:
        directory: The folder with the safetensors file or files.
        prefix: The prefix of the base model's tensor names in a checkpoint that includes
            the head, such as ``"model."``. It is added to names stored without it.
        renamed: Parts of stored names, and what replaces them.

    Raises:
        FileNotFoundError: No safetensors file, or a listed shard is missing.
        ValueError: A file is damaged, or the index does not match its shards.
    """

    def __init__(
        self, directory: Path, prefix: str = "", renamed: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.directory = directory
        self._opened: dict[Path, Any] = {}
        self._index = directory / _INDEX
        self._map = None if (directory / _SINGLE).is_file() else self._read_index()
        self._files: dict[str, tuple[Path, str]] = {}
        for path in self._paths():
            for name in self._open(path).keys():  # noqa: SIM118  (not a mapping)
                self._files[name] = (path, name)
        self._check_index()
        if prefix and not any(name.startswith(prefix) for name in self._files):
            bare = {name: place for name, place in self._files.items() if name != "lm_head.weight"}
            self._files = {name: self._files[name] for name in self._files if name not in bare}
            self._files |= {prefix + name: place for name, place in bare.items()}
        for old, new in renamed.items():
            self._files = {name.replace(old, new): place for name, place in self._files.items()}

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._files)

    @property
    def first(self) -> str:
        """The first floating-point tensor, or the first of all if there is none."""
        return next(filter(self.is_float, self._files), next(iter(self._files)))

    def path(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._files[name][0]

    def where(self) -> Path:
        """The file to name in an error about a missing tensor: the single file, or the index."""
        return self.directory / _SINGLE if self._map is None else self._index

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the file's header."""
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """A tensor's dtype as safetensors writes it, such as ``F32``."""
        return str(self._slice(name).get_dtype())

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds plain floating-point numbers."""
        return self.dtype(name) in _FLOATS

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A slice of a tensor, in its stored dtype."""
        piece: np.ndarray = self._slice(name)[index]
        return piece

    def _slice(self, name: str) -> Any:
        path, stored = self._files[name]
        return self._open(path).get_slice(stored)

    def _open(self, path: Path) -> Any:
        if path not in self._opened:
            if not path.is_file():
                raise FileNotFoundError(f"{path} is listed in {self._index} but missing")
            try:
                self._opened[path] = safe_open(path, framework="np")
            except SafetensorError as error:
                raise ValueError(f"{path} is not a valid safetensors file: {error}") from error
        return self._opened[path]

    def _read_index(self) -> dict[str, str]:
        if not self._index.is_file():
            found = ", ".join(sorted(path.name for path in self.directory.iterdir()))
            raise FileNotFoundError(
                f"{self.directory} has neither {_SINGLE} nor {_INDEX} (only {found}); "
                "save the model in the safetensors format"
            )
        weight_map = read_json(self._index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise ValueError(f"{self._index}: 'weight_map' must map tensor names to file names")
        return weight_map

    def _paths(self) -> list[Path]:
        if self._map is None:
            return [self.directory / _SINGLE]
        return [self.directory / name for name in sorted(set(self._map.values()))]

    def _check_index(self) -> None:
        for name, file in (self._map or {}).items():
            if name not in self._files or self._files[name][0] != self.directory / file:
                raise ValueError(
                    f"{self.directory / file}: tensor {name!r}, listed in {self._index}, is missing"
                )
