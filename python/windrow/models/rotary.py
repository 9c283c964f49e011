"""Rotary position embeddings: pairs of features turned by an angle that grows with the position.

Feature ``i`` of the first half of a head and feature ``i`` of the second half
are one pair, turned by ``position * frequency[i]``. Source: Su et al., RoFormer,
2021; the scaling kinds are those of the Hugging Face configurations.

    head_dim 4, theta 10000    frequencies [1, 0.01]
    position 3                 angles      [3, 0.03]
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windrow.models.config import WAY_OUT, Fields

_KNOWN: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def read_frequencies(fields: Fields, head_dim: int) -> tuple[float, ...]:
    """The frequencies, ``head_dim / 2`` of them, that a configuration asks for.

    Both ways of writing them are read: ``rope_theta`` beside ``rope_scaling``,
    and ``rope_parameters`` with everything in it.

    Raises:
        ValueError: A scaling kind or a setting that is not known here.
    """
    theta = fields.take("rope_theta", None)
    scaling = fields.take("rope_scaling", None) or {}
    together = fields.take("rope_parameters", None) or {}
    for name, value in (("rope_scaling", scaling), ("rope_parameters", together)):
        if not isinstance(value, Mapping):
            raise ValueError(f"{fields.path}: {name!r} must be an object or null, not {value!r}")
    settings = dict(scaling or together)
    theta = settings.pop("rope_theta", theta) or 10000.0
    kinds = [settings.pop(name, None) for name in ("rope_type", "type")]
    kind = next((each for each in kinds if each is not None), "default")
    if kind not in _KNOWN:
        raise ValueError(
            f"{fields.path}: the rope scaling kind (rope_type) is {kind!r}; known: "
            f"{', '.join(_KNOWN)}. Else {WAY_OUT}"
        )
    if kind != "default" and float(settings.pop("partial_rotary_factor", None) or 1.0) != 1.0:
        raise ValueError(
            f"{fields.path}: a rope partial_rotary_factor other than 1 is not known here; {WAY_OUT}"
        )
    if kind == "llama3":
        _set_original_length(fields, settings)
    _check_settings(fields, kind, settings)
    return tuple(_frequencies(float(theta), head_dim, kind, settings).tolist())


def rotation(frequencies: tuple[float, ...], positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines, ``float32[rows, 1, length, head_dim / 2]``, for ``int32[rows, length]``."""
    turns = jnp.asarray(frequencies, jnp.float32)[None, None, None]
    angles = positions[:, None, :, None].astype(jnp.float32) * turns
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns ``x``, ``[rows, heads, length, head_dim]``, in float32."""
    cosine, sine = turn
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def _set_original_length(fields: Fields, settings: dict[str, Any]) -> None:
    """The first training length: the file's own field, else the setting, else the model's length."""
    name = "original_max_position_embeddings"
    stated = fields.take(name, settings.get(name))
    settings[name] = fields.take("max_position_embeddings", None) if stated is None else stated


def _check_settings(fields: Fields, kind: str, settings: Mapping[str, Any]) -> None:
    for name in _KNOWN[kind]:
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(
                f"{fields.path}: rope kind {kind!r} needs {name!r}, a number above 0, not {value!r}"
            )


def _frequencies(theta: float, head_dim: int, kind: str, settings: Mapping[str, Any]) -> np.ndarray:
    plain: np.ndarray = 1.0 / np.float32(theta) ** (
        np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    )
    if kind == "linear":
        plain = plain / np.float32(settings["factor"])
    return _llama3(plain, settings) if kind == "llama3" else plain


def _llama3(plain: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Slows waves that are long beside the first training length, leaves short ones, and blends between."""
    turns = settings["original_max_position_embeddings"] * plain / np.float32(2 * math.pi)
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
    blended: np.ndarray = (1 - kept) * plain / np.float32(settings["factor"]) + kept * plain
    return blended
