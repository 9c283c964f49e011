"""SmolLM3: Llama without positions in some layers.

Source: Bakouch et al., SmolLM3, 2025; field names and defaults as in the Hugging Face
configuration.
"""

from windrow.models import llama
from windrow.models.config import Fields
from windrow.models.llama import FULL, SLIDING, Config
from windrow.models.rotary import read_rope, still

PREFIX, IGNORED = llama.PREFIX, llama.IGNORED


def read_config(fields: Fields) -> Config:
    """The configuration."""
    shared = llama.read_shared(fields, tied=True, key_heads=4)
    layers, bias = shared["layers"], fields.flag("attention_bias", False)
    turned = _read_turned(fields, layers)
    window = fields.take("sliding_window", None) if fields.flag("use_sliding_window", False) else None
    kinds = llama.read_kinds(fields, layers)
    if kinds is None:
        kinds = [FULL if window is None or each else SLIDING for each in turned]
    rope = read_rope(fields, shared["head_dim"], theta=2_000_000.0)
    return Config(
        **shared,
        ropes=(rope, still(len(rope.frequencies))),
        rope_of_layer=tuple(int(not each) for each in turned),
        windows=llama.windows_of(fields, kinds, fields.take("sliding_window", None)),
        bias_qkv=bias,
        bias_out=bias,
        bias_mlp=fields.flag("mlp_bias", False),
    )


def _read_turned(fields: Fields, layers: int) -> list[bool]:
    """Which layers have positions: despite the field's name, those marked 1."""
    stated = fields.take("no_rope_layers", None)
    if stated is None:
        every = fields.size("no_rope_layer_interval", 4)
        return [bool((at + 1) % every) for at in range(layers)]
    if not isinstance(stated, list) or len(stated) < layers or not all(each in (0, 1) for each in stated):
        raise ValueError(
            f"{fields.path}: 'no_rope_layers' must list 0 or 1 for each of {layers} layers, not {stated!r}"
        )
    return [bool(each) for each in stated[:layers]]
