"""Reads tensors from files into a pytree of arrays on devices.

A *leaf* specifies the tensor it comes from, how the tensor's axes map to the leaf's, and which axis may be
split. The tensors of all layers become one leaf with a leading layer axis, so a model is one ``jax.lax.scan``
over layers, and compile time does not grow with the number of layers.

    tensor  layers.{layer}.q_proj.weight   [heads * head_dim, width], one per layer
    leaf    [layers, heads, head_dim, width], split over heads

Placement: the mesh's tensor axis splits heads, intermediate width and vocabulary if their sizes are divisible
by it; everything else is replicated. Each device's part is read from the files separately, so a host only
needs memory for its devices' parts of one leaf at a time.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from windrow.models.checkpoint import Checkpoint, Index
from windrow.sharding import from_host
from windrow.warning import warn

_HEAD = "lm_head.weight"
_BLOCK = 4096
_JOB_BYTES = 1 << 26
"""Roughly how many bytes of parameters one thread reads and casts at a time."""

_READERS = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="windrow-load")


@dataclass(frozen=True)
class Leaf:
    """One array of the parameters, and where it is stored.

    Attributes:
        tensor: The tensor's name; a name with ``{layer}`` stands for one tensor per layer, one with
            ``{expert}`` too for one per layer and expert.
        axes: For each axis of the stored tensor, the leaf's axes it becomes:
            ``((heads, head_dim), (width,))`` for ``[heads * head_dim, width]``.
        split: The stored axis whose first part may be split over devices. Experts are split
            instead if their number is divisible by the number of devices.
        within: ``(begin, whole)``: the leaf is a slice of the stored tensor along ``split``,
            from ``begin`` on; the stored axis has the length ``whole``.
        layers: The layers that have it; ``None`` for all.
        experts: The number of experts.
    """

    tensor: str
    axes: tuple[tuple[int, ...], ...]
    split: int | None = None
    within: tuple[int, int] | None = None
    layers: tuple[int, ...] | None = None
    experts: int = 1

    @property
    def stacked(self) -> int:
        """The number of leading axes that index tensors: first layers, then experts."""
        return ("{layer}" in self.tensor) + ("{expert}" in self.tensor)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape that the tensor must have in the file."""
        sizes = [prod(axis) for axis in self.axes]
        if self.within is not None and self.split is not None:
            sizes[self.split] = self.within[1]
        return tuple(sizes)

    def shape(self, layers: int) -> tuple[int, ...]:
        """The leaf's shape, with the axes of layers and experts, if any, first."""
        stacked = (len(self._layers(layers)), self.experts)[: self.stacked]
        return stacked + tuple(chain(*self.axes))

    def tensors(self, layers: int) -> list[str]:
        """The names of its tensors, by layer and, within a layer, by expert."""
        if not self.stacked:
            return [self.tensor]
        experts = range(self.experts)
        return [
            self.tensor.format(layer=layer, expert=expert)
            for layer in self._layers(layers)
            for expert in experts
        ]

    def _layers(self, layers: int) -> tuple[int, ...]:
        return tuple(range(layers)) if self.layers is None else self.layers

    def spec(self, mesh: Mesh, axis: str | None) -> PartitionSpec:
        """How the leaf is split over a mesh."""
        if axis is None:
            return PartitionSpec()
        if self.stacked == 2 and self.experts % mesh.shape[axis] == 0:
            return PartitionSpec(None, axis)
        if self.split is None or self.axes[self.split][0] % mesh.shape[axis]:
            return PartitionSpec()
        at = self.stacked + sum(len(group) for group in self.axes[: self.split])
        return PartitionSpec(*[None] * at, axis)


def embeddings(config: Any, embedding: str, norm: str) -> dict[str, Any]:
    """The leaves around the layers, by their stored names."""
    width = (config.width,)
    tree: dict[str, Any] = {
        "embedding": Leaf(embedding, ((config.vocab,), width), split=0),
        "norm": Leaf(norm, (width,)),
    }
    if not config.tied:
        tree["head"] = Leaf(_HEAD, ((config.vocab,), width), split=0)
    return tree


def check(tree: Any, checkpoint: Checkpoint, layers: int, ignored: tuple[str, ...]) -> None:
    """Rejects missing and unexpected tensors, wrong shapes, and dtypes that are not floating point.

    Tensors whose names end in one of ``ignored`` are allowed, as is a head that is tied to the embedding.
    """
    wanted = set()
    for leaf in jax.tree.leaves(tree):
        for name in leaf.tensors(layers):
            wanted.add(name)
            _check_tensor(name, leaf.stored_shape, checkpoint)
    for name in sorted(checkpoint.names - wanted):
        if name != _HEAD and not name.endswith(ignored):
            raise ValueError(
                f"{checkpoint.path(name)}: unexpected tensor {name!r}, {list(checkpoint.shape(name))}; "
                "config.json and the checkpoint do not match"
            )


def settle_head(tree: dict[str, Any], checkpoint: Checkpoint, retie: bool) -> dict[str, Any]:
    """The tree of a model with a tied head, adapted to what the files contain.

    As in transformers 5, a stored head that differs from the embedding is used, with a warning, unless it is
    tied again after loading; if there is no embedding, the head is used for both.
    """
    embedding = tree["embedding"]
    if "head" in tree or _HEAD not in checkpoint.names:
        return tree
    if embedding.tensor not in checkpoint.names:
        return {**tree, "embedding": replace(embedding, tensor=_HEAD)}
    if _equal(_HEAD, embedding.tensor, checkpoint):
        return tree
    done = "the embedding is used for both, as in lm_eval" if retie else "both are used as stored"
    warn(
        f"{checkpoint.path(_HEAD)}: config.json ties the head to the embedding (tie_word_embeddings), but "
        f"{_HEAD!r} differs from {embedding.tensor!r}; {done}"
    )
    return tree if retie else {**tree, "head": replace(embedding, tensor=_HEAD)}


def _equal(one: str, other: str, checkpoint: Checkpoint) -> bool:
    """Compares in blocks, so that no host needs memory for both."""
    if checkpoint.shape(one) != checkpoint.shape(other):
        return False
    length = checkpoint.shape(one)[0]
    blocks = ((slice(start, min(start + _BLOCK, length)), slice(None)) for start in range(0, length, _BLOCK))
    return all(np.array_equal(checkpoint.read(one, rows), checkpoint.read(other, rows)) for rows in blocks)


def _check_tensor(name: str, shape: tuple[int, ...], checkpoint: Checkpoint) -> None:
    if name not in checkpoint.names:
        raise ValueError(f"{checkpoint.where()}: tensor {name!r}, {list(shape)}, is missing")
    if (found := checkpoint.shape(name)) != shape:
        raise ValueError(
            f"{checkpoint.path(name)}: tensor {name!r} must have shape {list(shape)} according to "
            f"config.json, not {list(found)}"
        )
    if not checkpoint.is_float(name):
        raise ValueError(
            f"{checkpoint.path(name)}: tensor {name!r} must be floating point (F32, BF16, F16 or F64), "
            f"not {checkpoint.dtype(name)}"
        )


def place(
    tree: Any, checkpoint: Checkpoint, layers: int, dtype: np.dtype, mesh: Mesh | None, axis: str | None
) -> Any:
    """The tree with each leaf read, cast to ``dtype`` and placed on its devices."""

    def array(leaf: Leaf) -> jax.Array:
        shape = leaf.shape(layers)
        if mesh is None:
            whole = _read(leaf, checkpoint, shape, (slice(None),) * len(shape), dtype)
            placed: jax.Array = jax.device_put(whole)
            return placed
        pieces: dict[tuple[tuple[int, int, int], ...], np.ndarray] = {}

        def piece(index: Index | None) -> np.ndarray[Any, Any]:
            index = index or ()
            key = tuple(each.indices(size) for each, size in zip(index, shape, strict=True))
            if key not in pieces:
                pieces[key] = _read(leaf, checkpoint, shape, index, dtype)
            return pieces[key]

        return from_host(shape, NamedSharding(mesh, leaf.spec(mesh, axis)), piece)

    return jax.tree.map(array, tree)


def _read(
    leaf: Leaf, checkpoint: Checkpoint, shape: tuple[int, ...], index: Index, dtype: np.dtype
) -> np.ndarray:
    ranges = [range(size)[each] for each, size in zip(index, shape, strict=True)]
    stored = _stored_index(leaf, ranges[leaf.stacked :])
    piece = _aligned([len(each) for each in ranges], dtype)
    names = np.reshape(leaf.tensors(shape[0]), shape[: leaf.stacked])
    as_stored = [each.stop - each.start for each in stored]
    jobs = [
        (
            piece[at].reshape(as_stored)[start:stop],
            str(name),
            slice(stored[0].start + start, stored[0].start + stop),
        )
        for at, name in np.ndenumerate(names[tuple(np.ix_(*ranges[: leaf.stacked]))])
        for start, stop in _spans(as_stored, dtype)
    ]

    def read(job: tuple[np.ndarray, str, slice]) -> None:
        out, name, rows = job
        checkpoint.read_into(out, name, (rows, *stored[1:]))

    for _ in _READERS.map(read, jobs):
        pass
    return piece


def _spans(shape: list[int], dtype: np.dtype) -> Iterator[tuple[int, int]]:
    """Ranges of a tensor's rows, each a job for one thread."""
    step = max(1, _JOB_BYTES // max(1, prod(shape[1:]) * dtype.itemsize))
    return ((start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _aligned(shape: list[int], dtype: np.dtype) -> np.ndarray:
    """Memory aligned to 64 bytes, which JAX uses on CPUs without copying it."""
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + size].view(dtype).reshape(shape)


def _stored_index(leaf: Leaf, ranges: list[range]) -> Index:
    index, at = [], 0
    for axis, group in enumerate(leaf.axes):
        inner = prod(group[1:])
        start = leaf.within[0] if leaf.within is not None and axis == leaf.split else 0
        index.append(slice(start + ranges[at].start * inner, start + ranges[at].stop * inner))
        at += len(group)
    return tuple(index)
