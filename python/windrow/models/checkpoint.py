"""Reads the tensors of a directory in the Hugging Face format, slice by slice.

A checkpoint is ``model.safetensors``, or shards listed in ``model.safetensors.index.json``. Opening a file
reads its header; reading a slice reads only its rows, straight into the destination array. Nothing is
memory-mapped, so a file's pages do not count as the process's memory.

    directory/
      model.safetensors.index.json    {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
      model-1.safetensors             a: float32[4, 2]
      model-2.safetensors             b: float32[3]

    Checkpoint(directory).read("a", (slice(0, 2), slice(0, 2)))    ->    float32[2, 2]
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import FileIO
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from windrow.models.config import read_json

Index = tuple[slice, ...]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FLOATS: dict[str, Any] = {
    "F32": np.float32,
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F64": np.float64,
}
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class _Stored:
    """The location of a tensor, from its file's header; ``begin`` is its first byte in the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int


class Checkpoint:
    """Tensors by name.

    Args:
        directory: The directory with the safetensors files.
        prefix: The prefix of the base model's tensor names in a checkpoint that includes the head, such as
            ``"model."``. It is added to stored names that lack it.
        renamed: Parts of stored names, and their replacements.
        fused: The end of the name of a tensor ``[experts, parts * out, in]``, after renaming, and its parts.
            It is offered as one tensor per expert and part, ``[out, in]``: ``experts.gate_up_proj`` as
            ``experts.0.gate_proj.weight``, ``experts.0.up_proj.weight`` and so on.

    Raises:
        FileNotFoundError: No safetensors file, or a listed shard is missing.
        ValueError: A file is damaged, or the index does not match its shards.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str = "",
        renamed: Mapping[str, str] = MappingProxyType({}),
        fused: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        self.directory = directory
        self._index = directory / _INDEX
        self._map = None if (directory / _SINGLE).is_file() else self._read_index()
        self._tensors: dict[str, _Stored] = {}
        for path in self._paths():
            self._tensors |= self._open(path)
        self._check_index()
        if prefix and not any(name.startswith(prefix) for name in self._tensors):
            self._tensors = {
                name if name == "lm_head.weight" else prefix + name: stored
                for name, stored in self._tensors.items()
            }
        for old, new in renamed.items():
            self._tensors = {name.replace(old, new): stored for name, stored in self._tensors.items()}
        for end, parts in fused.items():
            self._split(end, parts)

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._tensors)

    @property
    def first(self) -> str:
        """The first floating-point tensor, or the first tensor if there is none."""
        return next(filter(self.is_float, self._tensors), next(iter(self._tensors)))

    def path(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._tensors[name].path

    def where(self) -> Path:
        """The file to name in an error about a missing tensor: the single file, or the index."""
        return self.directory / _SINGLE if self._map is None else self._index

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the file's header."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> str:
        """A tensor's dtype as safetensors writes it, such as ``F32``."""
        return self._tensors[name].dtype

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds plain floating-point numbers."""
        return self.dtype(name) in _FLOATS

    def read(self, name: str, index: Index) -> np.ndarray:
        """A slice of a floating-point tensor, in its stored dtype."""
        shape = [len(range(size)[part]) for size, part in zip(self.shape(name), index, strict=True)]
        out = np.empty(shape, _FLOATS[self.dtype(name)])
        self.read_into(out, name, index)
        return out

    def read_into(self, out: np.ndarray, name: str, index: Index) -> None:
        """Reads a slice of a floating-point tensor into an array of the slice's shape, cast to its dtype."""
        stored = self._tensors[name]
        dtype, width = np.dtype(_FLOATS[stored.dtype]), stored.shape[1:]
        row_bytes = prod(width) * dtype.itemsize
        rows = range(stored.shape[0])[index[0]]
        with stored.path.open("rb", buffering=0) as file:
            file.seek(stored.begin + rows.start * row_bytes)
            if out.dtype == dtype and out.shape[1:] == width and out.flags.c_contiguous:
                _fill(out, file)
                return
            count = max(1, _BLOCK_BYTES // max(1, row_bytes))
            for first in range(0, len(rows), count):
                block = np.empty((min(count, len(rows) - first), *width), dtype)
                _fill(block, file)
                out[first : first + count] = block[:, *index[1:]]

    def _open(self, path: Path) -> dict[str, _Stored]:
        """The tensors of a file, from its header: a length of 8 bytes, and JSON."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} is listed in {self._index} but missing")
        try:
            with safe_open(path, framework="np"):  # checks the header and the file's size
                pass
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a valid safetensors file, or is incomplete: {error}; download it again"
            ) from error
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        return {
            name: _Stored(path, each["dtype"], tuple(each["shape"]), 8 + size + each["data_offsets"][0])
            for name, each in header.items()
            if name != "__metadata__"
        }

    def _split(self, end: str, parts: tuple[str, ...]) -> None:
        """Replaces tensors of all experts by one tensor per expert and part; their bytes are contiguous."""
        for name in [each for each in self._tensors if each.endswith(end)]:
            stored = self._tensors[name]
            if len(stored.shape) != 3 or stored.shape[1] % len(parts) or stored.dtype not in _FLOATS:
                continue  # reported as an unexpected tensor
            experts, out, width = stored.shape
            shape = (out // len(parts), width)
            size = prod(shape) * np.dtype(_FLOATS[stored.dtype]).itemsize
            del self._tensors[name]
            for number in range(experts * len(parts)):
                expert, part = divmod(number, len(parts))
                own = name.removesuffix(end) + f"{end.rpartition('.')[0]}.{expert}.{parts[part]}.weight"
                self._tensors[own] = replace(stored, shape=shape, begin=stored.begin + number * size)

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
            if name not in self._tensors or self._tensors[name].path != self.directory / file:
                raise ValueError(
                    f"{self.directory / file}: tensor {name!r}, listed in {self._index}, is missing"
                )


def _fill(out: np.ndarray, file: FileIO) -> None:
    """Reads as many bytes as an array holds, which may take several calls."""
    left = out.reshape(-1).view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise ValueError(f"{file.name} was truncated while it was being read")
        left = left[count:]
