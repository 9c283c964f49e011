"""Phi-3 and Phi-4.

Llama with queries, keys and values in one matrix, gate and up in another, an optional
window for all layers, and optionally only part of each head rotated. Source: Abdin et
al., Phi-3 Technical Report, 2024; field names and defaults as in the Hugging Face
configuration.
"""

from dataclasses import dataclass

from windrow.models import llama
from windrow.models.config import BRIDGE, Fields
from windrow.models.parameters import Leaf
from windrow.models.rotary import read_rope, read_settings

PREFIX, IGNORED = llama.PREFIX, llama.IGNORED

_ORIGINAL = "original_max_position_embeddings"
_LONG = ("longrope", "su", "yarn")
"""Spellings of the one scaling that the family has."""


@dataclass(frozen=True, kw_only=True)
class Config(llama.Config):
    """The configuration."""

    def attention_leaves(self, at: str) -> dict[str, Leaf]:
        """Queries, keys and values are stored as one concatenated tensor."""
        found, begin = super().attention_leaves(at), 0
        counts = {"q": self.heads, "k": self.key_heads, "v": self.key_heads}
        whole = sum(counts.values()) * self.head_dim
        for name, heads in counts.items():
            axes = ((heads, self.head_dim), (self.width,))
            found[name] = Leaf(at + "qkv_proj.weight", axes, split=0, within=(begin, whole))
            begin += heads * self.head_dim
        return found

    def mlp_leaves(self, at: str) -> dict[str, Leaf]:
        """Gate and up are stored as one concatenated tensor."""
        found, axes = super().mlp_leaves(at), ((self.inner,), (self.width,))
        for k, name in enumerate(("gate", "up")):
            within = (k * self.inner, 2 * self.inner)
            found[name] = Leaf(at + "gate_up_proj.weight", axes, split=0, within=within)
        return found


def read_config(fields: Fields) -> Config:
    """The configuration."""
    shared = llama.read_shared(fields, eps=1e-5)
    settings = dict(read_settings(fields))
    kind = settings.get("rope_type") or settings.pop("type", None) or "default"
    if kind not in ("default", *_LONG):
        raise ValueError(
            f"{fields.path}: the rope scaling kind (rope_type) is {kind!r}; known for Phi-3: default, "
            f"longrope. Otherwise {BRIDGE}"
        )
    settings["rope_type"] = "longrope" if kind in _LONG else kind
    if fields.take(_ORIGINAL, None) is None and not (kind == "su" and settings.get(_ORIGINAL)):
        settings[_ORIGINAL] = 4096  # transformers reads the setting only if the kind is spelled su
    return Config(
        **shared,
        ropes=(read_rope(fields, shared["head_dim"], partial=True, settings=settings),),
        windows=llama.read_window(fields, shared["layers"]),
    )
