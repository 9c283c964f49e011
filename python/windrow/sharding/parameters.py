"""Places a model's parameters on the mesh of the rows."""

from hashlib import blake2b
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from windrow.admission import kind_of
from windrow.sharding.agreement import check_agreement
from windrow.sharding.alive import check_alive, name_of
from windrow.sharding.placing import from_host
from windrow.sharding.rows import RowSharding, automatic, device_order

MOST_NUMBERS = 1000
"""The maximum number of Python numbers among the parameters."""


def put_params(params: Any, rows: RowSharding) -> Any:
    """The parameters on the mesh of ``rows``. NumPy arrays and arrays on one device are replicated.

    Leaves that are already on the mesh's devices are not copied. NumPy arrays are always copied, so the
    caller may overwrite them afterwards. If the mesh has devices of several hosts, all of them must call it,
    with the same local values.

    Raises:
        TypeError: A leaf is not an array, or lists of numbers stand for arrays.
        ValueError: A leaf was deleted, or is on several devices other than the mesh's.
        HostsDifferError: Hosts have different values.
    """
    check_alive(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        _check_leaf(name_of(path), leaf)
    _check_numbers(params)
    if not rows.is_local:
        check_agreement([], _digests(params), call="parameters")
    return jax.tree.map_with_path(lambda path, leaf: _put(path, leaf, rows), params)


def put_like(params: Any, known: Any) -> Any:
    """Places new parameters: each leaf gets the sharding of the one it replaces.

    Args:
        params: The new parameters, on any devices.
        known: Parameters from :func:`put_params`, with the same structure, shapes and dtypes.

    Raises:
        ValueError: Structure, shapes or dtypes differ. The message names the first leaf.
    """
    check_alive(params)
    new, old = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (params, known))
    for path in dict.fromkeys([*old, *new]):
        if path not in new or path not in old:
            which = "missing" if path not in new else "unexpected"
            raise ValueError(
                f"{name_of(path)} is {which} in the new parameters, {kind_of(params)}; pass the same tree of "
                "arrays as the model's own params"
            )
        _check_leaf(name_of(path), new[path])
        shapes = [_shape(leaf) for leaf in (new[path], old[path])]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name_of(path)} is {shapes[0]}, but was {shapes[1]}; the parameters must belong to the "
                "same model and have the same dtypes"
            )
    leaves = [_moved(new[path], leaf) for path, leaf in old.items()]
    return jax.tree.unflatten(jax.tree.structure(known), leaves)


def _moved(leaf: Any, known: jax.Array) -> jax.Array:
    own = not isinstance(leaf, jax.Array) or _is_local(leaf)
    if jax.process_count() > 1 and own and not _is_keys(leaf):
        host = _on_host(leaf)
        where: Any = known.sharding
        return from_host(host.shape, where, lambda index: np.asarray(host[index]))
    moved: jax.Array = jax.device_put(_owned(leaf), known.sharding)
    return moved


def _shape(leaf: Any) -> str:
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    dtype = array.dtype if _is_keys(array) else jax.dtypes.canonicalize_dtype(array.dtype)
    return f"{dtype}{list(array.shape)}"


def _put(path: tuple[Any, ...], leaf: Any, rows: RowSharding) -> jax.Array:
    if not isinstance(leaf, jax.Array):
        return _copied(leaf, rows)
    own = leaf.sharding
    if isinstance(own, NamedSharding) and device_order(own.mesh) == device_order(rows.mesh):
        if (mesh := automatic(own.mesh)) is own.mesh:
            return leaf
        parts = [shard.data for shard in leaf.addressable_shards]
        sharding = NamedSharding(mesh, own.spec, memory_kind=own.memory_kind)
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, parts)
    if _is_local(leaf):
        return _copied(leaf, rows)
    if own.device_set == rows.sharding.device_set and not isinstance(own, NamedSharding):
        return leaf
    raise ValueError(
        f"{name_of(path)} is on devices {_names(own)}, but rows are on {_names(rows.sharding)}; pass a "
        "sharding or mesh with the parameters' devices in the same order, or move the parameters to the "
        "rows' devices"
    )


def _copied(leaf: Any, rows: RowSharding) -> jax.Array:
    """Copies the leaf to every device. ``device_put`` would need the same number of devices on each host."""
    if jax.process_count() == 1 or _is_keys(leaf):
        copied: jax.Array = jax.device_put(_owned(leaf), rows.replicated)
        return copied
    host = _on_host(leaf)
    return from_host(host.shape, rows.replicated, lambda index: np.asarray(host[index]))


def _on_host(leaf: Any) -> NDArray[Any]:
    if _is_keys(leaf):
        leaf = jax.random.key_data(leaf)
    host = np.asarray(jax.device_get(_owned(leaf)))
    return host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)


def _digests(params: Any) -> dict[str, str]:
    """Hashes of the leaves that are local to each host."""
    digests = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.Array) or _is_local(leaf):
            host = _on_host(leaf)
            digest = blake2b(host.tobytes(), digest_size=16).hexdigest()
            digests[name_of(path)] = f"{host.dtype}{list(host.shape)} with the hash {digest}"
    return digests


def _check_leaf(name: str, leaf: Any) -> None:
    if isinstance(leaf, jax.Array):
        return
    if isinstance(leaf, np.ndarray):
        if leaf.dtype.kind in "OUSMm":
            raise TypeError(f"{name} is a NumPy array of {leaf.dtype}; parameters must be arrays of numbers")
        return
    if not isinstance(leaf, int | float | complex | np.generic):
        raise TypeError(
            f"{name} is {_kind(leaf)}; params must contain only arrays. Keep the rest in the model's "
            "functions; equinox.partition and flax.nnx.split separate the two"
        )


def _check_numbers(params: Any) -> None:
    """Rejects lists of numbers in place of arrays, which take minutes to compile: each number is a leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    numbers = [path for path, leaf in leaves if isinstance(leaf, int | float | complex)]
    if len(numbers) > MOST_NUMBERS:
        raise TypeError(
            f"params has {len(numbers):,} Python numbers, such as {name_of(numbers[0])}; turn lists of "
            "numbers into arrays, with jax.numpy.asarray"
        )


def _kind(leaf: Any) -> str:
    if callable(leaf) and hasattr(leaf, "__name__"):
        return f"the function {leaf.__name__}"
    return kind_of(leaf)


def _owned(leaf: Any) -> Any:
    """The leaf, copied if it is a NumPy array: JAX on the CPU may alias its memory."""
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _is_keys(leaf: Any) -> bool:
    """Whether the leaf is an array of random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_local(leaf: jax.Array) -> bool:
    """Whether the leaf is on a single device of this process."""
    return len(leaf.sharding.device_set) == 1 and leaf.is_fully_addressable


def _names(sharding: jax.sharding.Sharding) -> str:
    """The ids of a sharding's devices, in order if they have one; at most the first 16."""
    devices = (
        device_order(sharding.mesh) if isinstance(sharding, NamedSharding) else list(sharding.device_set)
    )
    ids = [str(device.id) for device in devices]
    return f"[{', '.join(ids[:16])}{', ...' if len(ids) > 16 else ''}]"
