"""Rotary position embeddings: pairs of features rotated by an angle that grows with the position.

Feature ``i`` of the first half of the rotated features and feature ``i`` of the second half form a pair,
which is rotated by ``position * frequency[i]``. The remaining features are unchanged. Source: Su et al.,
RoFormer, 2021. The kinds of scaling are those of transformers 5: linear, dynamic (NTK), yarn (Peng et al.,
2023), longrope (Ding et al., 2024), llama3 and proportional.

    head_dim 4, theta 10000    frequencies [1, 0.01]
    position 3                 angles      [3, 0.03]
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windrow.model import segment_ends
from windrow.models.config import BRIDGE, Fields

NEVER = 2**30


class Rope(NamedTuple):
    """A rotary embedding.

    Attributes:
        frequencies: One per pair of features.
        scale: The factor for cosines and sines.
        grows_after: Segments longer than this have their own frequencies.
        grown: Computes those frequencies from the length of each token's segment,
            ``float32[rows, length, 1]``, as ``float32[..., pairs]``.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0
    grows_after: int = NEVER
    grown: Callable[[jax.Array], jax.Array] | None = None


def still(pairs: int) -> Rope:
    """An embedding that rotates nothing, for layers without positions."""
    return Rope((0.0,) * pairs)


def rotation(rope: Rope, positions: jax.Array, segment_ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines, ``float32[rows, 1, length, pairs]``, for ``int32[rows, length]``."""
    turns = jnp.asarray(rope.frequencies, jnp.float32)[None, None, None]
    if rope.grown is not None and rope.grows_after < positions.shape[1]:
        last = segment_ends(segment_ids) - 1
        lengths = (jnp.take_along_axis(positions, last, axis=1) + 1)[:, None, :, None]
        turns = jnp.where(lengths > rope.grows_after, rope.grown(lengths.astype(jnp.float32)), turns)
    angles = positions[:, None, :, None].astype(jnp.float32) * turns
    return jnp.cos(angles) * rope.scale, jnp.sin(angles) * rope.scale


def rotate(x: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates the first features of ``x``, ``[rows, heads, length, head_dim]``, in float32."""
    cosine, sine = turn
    pairs = cosine.shape[-1]
    first, second, rest = jnp.split(x.astype(jnp.float32), [pairs, 2 * pairs], axis=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine, rest]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class _Model(NamedTuple):
    """The settings from which scaling is computed."""

    path: Any
    theta: float
    head_dim: int
    dim: int
    length: int
    settings: Mapping[str, Any]

    def number(self, name: str) -> float:
        """A setting that must be a number above 0."""
        value = self.settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            kind = self.settings["kind"]
            raise ValueError(
                f"{self.path}: rope kind {kind!r} needs {name!r}, a number above 0, not {value!r}"
            )
        return value

    def ratio(self) -> float:
        """The factor; if null, the model's length divided by its original training length."""
        if self.settings.get("factor") is not None:
            return self.number("factor")
        return self.length / self.number("original_max_position_embeddings")

    def plain(self) -> np.ndarray:
        """The frequencies without scaling."""
        return _powers(self.theta, self.dim)


def _powers(theta: float, dim: int) -> np.ndarray:
    powers: np.ndarray = 1.0 / np.float32(theta) ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))
    return powers


def read_rope(
    fields: Fields,
    head_dim: int,
    *,
    theta: float = 10000.0,
    partial: bool = False,
    settings: Mapping[str, Any] | None = None,
    nested: bool = False,
) -> Rope:
    """The rotary embedding that a configuration specifies.

    Both spellings are read: ``rope_theta`` next to ``rope_scaling``, and
    ``rope_parameters`` with everything in it.

    Args:
        fields: The configuration.
        head_dim: Features per head.
        theta: The family's default base.
        partial: Whether the family can leave the last features of a head unrotated.
        settings: The settings, if the family has its own format for them.
        nested: Whether there are several embeddings, one per kind of layer.

    Raises:
        ValueError: A kind of scaling or a setting is not supported.
    """
    given = dict(read_settings(fields) if settings is None else settings)
    base = given.pop("rope_theta", None) or fields.take("rope_theta", None) or theta
    kinds = [given.pop(name, None) for name in ("rope_type", "type")]
    kind = next((each for each in kinds if each is not None), "default")
    if kind not in _KINDS:
        raise ValueError(
            f"{fields.path}: the rope scaling kind (rope_type) is {kind!r}; known: "
            f"{', '.join(_KINDS)}. Otherwise {BRIDGE}"
        )
    part = given.get("partial_rotary_factor")
    part = fields.take("partial_rotary_factor", 1.0) if part is None and not nested else part or 1.0
    if not partial and kind not in ("default", "proportional") and float(part) != 1.0:
        raise ValueError(
            f"{fields.path}: a rope partial_rotary_factor other than 1 is not supported; {BRIDGE}"
        )
    dim = int(head_dim * part) if partial else head_dim
    length = fields.positions
    _set_original_length(fields, given, length, nested)
    if nested:
        given.pop("truncate", None)  # transformers looks for it next to the layers' settings
    return _KINDS[kind](
        _Model(fields.path, float(base), head_dim, dim, length, given | {"kind": kind, "part": part})
    )


def read_settings(fields: Fields) -> Mapping[str, Any]:
    """The contents of ``rope_scaling``, else of ``rope_parameters``."""
    found = []
    for name in ("rope_scaling", "rope_parameters"):
        value = fields.take(name, None) or {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{fields.path}: {name!r} must be an object or null, not {value!r}")
        found.append(value)
    return found[0] or found[1]


def _set_original_length(fields: Fields, settings: dict[str, Any], length: int, nested: bool) -> None:
    """The original training length: the file's own field, else the setting, else the model's length."""
    name = "original_max_position_embeddings"
    stated = None if nested else fields.take(name, None)
    settings[name] = stated or settings.get(name) or length


def _default(model: _Model) -> Rope:
    return Rope(_tuple(model.plain()))


def _linear(model: _Model) -> Rope:
    return Rope(_tuple(model.plain() / np.float32(model.number("factor"))))


def _proportional(model: _Model) -> Rope:
    """Only the fastest pairs rotate, with the frequencies they have in the whole head."""
    pairs = int(float(model.settings["part"]) * model.head_dim // 2)
    turns = _powers(model.theta, model.head_dim)
    turns[pairs:] = 0
    return Rope(_tuple(turns / np.float32(model.settings.get("factor") or 1.0)))


def _dynamic(model: _Model) -> Rope:
    """The base grows with segments longer than the model's length."""
    factor, dim, length = model.number("factor"), model.dim, model.length

    def grown(lengths: jax.Array) -> jax.Array:
        base = model.theta * (factor * lengths / length - (factor - 1)) ** (dim / (dim - 2))
        powers = jnp.arange(0, dim, 2, dtype=jnp.float32) / dim
        return 1.0 / base ** powers[None, None, None]

    return Rope(_tuple(model.plain()), grows_after=length, grown=grown)


def _yarn(model: _Model) -> Rope:
    """Slows the pairs that rotate rarely within the original training length, by a ramp over the pairs."""
    settings, factor, dim = model.settings, model.ratio(), model.dim
    original = model.number("original_max_position_embeddings")

    def pair(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(model.theta))

    low, high = pair(settings.get("beta_fast") or 32), pair(settings.get("beta_slow") or 1)
    if settings.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if low == high else high
    plain = model.plain()
    ramp = np.clip((np.arange(len(plain), dtype=np.float32) - low) / (high - low), 0, 1).astype(np.float32)
    scale = settings.get("attention_factor")
    if scale is None:
        mscale, all_dims = settings.get("mscale"), settings.get("mscale_all_dim")
        scale = (
            _mscale(factor, mscale) / _mscale(factor, all_dims) if mscale and all_dims else _mscale(factor)
        )
    return Rope(_tuple(plain / np.float32(factor) * ramp + plain * (1 - ramp)), float(scale))


def _mscale(factor: float, mscale: float = 1) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(model: _Model) -> Rope:
    """Each pair has a factor, and another in segments longer than the original training length."""
    original, plain = model.number("original_max_position_embeddings"), model.plain()
    scale, ratio = model.settings.get("attention_factor"), model.ratio()
    if scale is None:
        scale = 1.0 if ratio <= 1 else math.sqrt(1 + math.log(ratio) / math.log(original))
    short, long = (plain / _factors(model, name, len(plain)) for name in ("short_factor", "long_factor"))

    def grown(_: jax.Array) -> jax.Array:
        return jnp.asarray(long, jnp.float32)[None, None, None]

    return Rope(_tuple(short), float(scale), int(original), grown)


def _factors(model: _Model, name: str, pairs: int) -> np.ndarray:
    value = model.settings.get(name)
    if not isinstance(value, list) or len(value) != pairs:
        found = f"a list of {len(value)}" if isinstance(value, list) else repr(value)
        raise ValueError(
            f"{model.path}: rope kind 'longrope' needs {name!r}, a list of {pairs} numbers, not {found}"
        )
    return np.asarray(value, np.float32)


def _llama3(model: _Model) -> Rope:
    """Scales down low frequencies relative to the original training length, and blends towards high ones."""
    plain = model.plain()
    factor, low, high, original = (
        model.number(name)
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    turns = original * plain / np.float32(2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
    return Rope(_tuple((1 - kept) * plain / np.float32(factor) + kept * plain))


def _tuple(frequencies: np.ndarray) -> tuple[float, ...]:
    return tuple(frequencies.astype(np.float32).tolist())


_KINDS: dict[str, Callable[[_Model], Rope]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
    "proportional": _proportional,
}
