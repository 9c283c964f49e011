"""From tensors in files to a pytree of arrays on devices.

A *leaf* says which tensor it comes from, how the tensor's axes fall into the
leaf's, and which axis may be divided. Tensors of all layers become one leaf
with a leading layer axis, so that a model is one ``jax.lax.scan`` over layers
and compiles as fast with eighty as with two.

    tensor  layers.{layer}.q_proj.weight   [heads * head_dim, width], one per layer
    leaf    [layers, heads, head_dim, width], divided over heads

Placement: the mesh's tensor axis divides heads, intermediate width and
vocabulary wherever it divides them evenly; everything else is whole on every
device. Each device's piece is read from the files by itself, so that a host
needs memory for its own devices' pieces of one leaf at a time.
"""

import warnings
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from windrow.models.checkpoint import Checkpoint
from windrow.sharding import from_host

Index = tuple[slice, ...]

_HEAD = "lm_head.weight"
_BLOCK = 4096


@dataclass(frozen=True)
class Leaf:
    """One array of the parameters, and where it is stored.

    Attributes:
        tensor: The tensor's name; with ``{layer}`` in it, one tensor per layer.
        axes: For each axis of the stored tensor the axes of the leaf it falls
            into: ``((heads, head_dim), (width,))`` for ``[heads * head_dim, width]``.
        split: The stored axis whose first part may be divided over devices.
        part: ``(k, n)``: the leaf is the k-th of n equal parts of the stored
            tensor along ``split``.
    """

    tensor: str
    axes: tuple[tuple[int, ...], ...]
    split: int | None = None
    part: tuple[int, int] = (0, 1)

    @property
    def stacked(self) -> bool:
        """Whether there is one tensor per layer."""
        return "{layer}" in self.tensor

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape that the tensor must have in the file."""
        parts = self.part[1]
        return tuple(prod(axis) * (parts if at == self.split else 1) for at, axis in enumerate(self.axes))

    def shape(self, layers: int) -> tuple[int, ...]:
        """The leaf's shape, with the layer axis first if there is one."""
        return (layers,) * self.stacked + tuple(chain(*self.axes))

    def tensors(self, layers: int) -> list[str]:
        """The names of the tensors it is made of."""
        return [self.tensor.format(layer=layer) for layer in range(layers if self.stacked else 1)]

    def spec(self, mesh: Mesh, axis: str | None) -> PartitionSpec:
        """How the leaf is divided over a mesh."""
        if axis is None or self.split is None or self.axes[self.split][0] % mesh.shape[axis]:
            return PartitionSpec()
        at = self.stacked + sum(len(group) for group in self.axes[: self.split])
        return PartitionSpec(*[None] * at, axis)


def check(tree: Any, checkpoint: Checkpoint, layers: int, ignored: tuple[str, ...]) -> None:
    """Refuses missing, misshapen and superfluous tensors, and those that are not floating point.

    Tensors whose names end in one of ``ignored`` may be there, and a head that is tied to the embedding.
    """
    wanted = set()
    for leaf in jax.tree.leaves(tree):
        for name in leaf.tensors(layers):
            wanted.add(name)
            _check_tensor(name, leaf.stored_shape, checkpoint)
    for name in sorted(checkpoint.names - wanted):
        if name != _HEAD and not name.endswith(ignored):
            raise ValueError(
                f"{checkpoint.path(name)}: the tensor {name!r}, {list(checkpoint.shape(name))}, is none that "
                "this model has; config.json and the checkpoint do not belong together"
            )


def settle_head(tree: dict[str, Any], checkpoint: Checkpoint, retie: bool) -> dict[str, Any]:
    """The tree of a model whose head the configuration ties to the embedding, as the files have it.

    As in transformers 5: a head that differs from the embedding is used as it is stored, unless it is tied
    again after loading; where there is no embedding, the head is it. The first is warned of.
    """
    embedding = tree["embedding"]
    if "head" in tree or _HEAD not in checkpoint.names:
        return tree
    if embedding.tensor not in checkpoint.names:
        return {**tree, "embedding": replace(embedding, tensor=_HEAD)}
    if _equal(_HEAD, embedding.tensor, checkpoint):
        return tree
    done = "the embedding is used for both, as by lm_eval" if retie else "each is used as it is stored"
    warnings.warn(
        f"{checkpoint.path(_HEAD)}: config.json ties the head to the embedding (tie_word_embeddings), but "
        f"{_HEAD!r} differs from {embedding.tensor!r}; {done}",
        stacklevel=3,
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
        raise ValueError(f"{checkpoint.where()}: the tensor {name!r}, {list(shape)}, is missing")
    if (found := checkpoint.shape(name)) != shape:
        raise ValueError(
            f"{checkpoint.path(name)}: the tensor {name!r} must have shape {list(shape)} by config.json, "
            f"not {list(found)}"
        )
    if not checkpoint.is_float(name):
        raise ValueError(
            f"{checkpoint.path(name)}: the tensor {name!r} must be floating point (F32, BF16, F16 or F64), "
            f"not {checkpoint.dtype(name)}"
        )


def place(
    tree: Any, checkpoint: Checkpoint, layers: int, dtype: np.dtype, mesh: Mesh | None, axis: str | None
) -> Any:
    """The tree with each leaf read, cast to ``dtype`` and put where it belongs."""

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
    piece = np.empty([len(each) for each in ranges], dtype)
    if not leaf.stacked:
        piece[...] = checkpoint.read(leaf.tensor, stored).reshape(piece.shape)
        return piece
    for at, layer in enumerate(ranges[0]):
        piece[at] = checkpoint.read(leaf.tensor.format(layer=layer), stored).reshape(piece.shape[1:])
    return piece


def _stored_index(leaf: Leaf, ranges: list[range]) -> Index:
    index, at = [], 0
    for axis, group in enumerate(leaf.axes):
        inner = prod(group[1:])
        start = leaf.part[0] * prod(group) if axis == leaf.split else 0
        index.append(slice(start + ranges[at].start * inner, start + ranges[at].stop * inner))
        at += len(group)
    return tuple(index)
