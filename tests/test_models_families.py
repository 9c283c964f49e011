"""Every family and switch, compared with a token-by-token float64 computation on random checkpoints."""

import jax
import numpy as np
import pytest

from reference_models import GPT2, LLAMA, MAMBA, logits, random_tensors, write
from windrow.models import load

LENGTH = 23
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def _family(kind, architecture, **more):
    return LLAMA | {"model_type": kind, "architectures": [architecture]} | more


CONFIGS = {
    "llama, biases, own head size, tied": LLAMA
    | {"attention_bias": True, "mlp_bias": True, "head_dim": 10, "tie_word_embeddings": True},
    "llama, linear rope, gelu": LLAMA
    | {"rope_scaling": {"type": "linear", "factor": 4.0}, "hidden_act": "gelu"},
    "llama, llama3 rope": LLAMA | {"head_dim": 16, "rope_scaling": LLAMA3},
    "llama, llama3 rope, newer spelling": {k: v for k, v in LLAMA.items() if not k.startswith("rope")}
    | {"head_dim": 16, "rope_parameters": LLAMA3 | {"rope_theta": 500.0}},
    "mistral, window": _family("mistral", "MistralForCausalLM", sliding_window=6, head_dim=None),
    "mistral, no window": _family("mistral", "MistralForCausalLM", sliding_window=None),
    "qwen2, window from the second layer": _family(
        "qwen2",
        "Qwen2ForCausalLM",
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=1,
        tie_word_embeddings=True,
    ),
    "qwen2, window not in use": _family(
        "qwen2", "Qwen2ForCausalLM", use_sliding_window=False, sliding_window=5, max_window_layers=1
    ),
    "qwen3": _family("qwen3", "Qwen3ForCausalLM", head_dim=8, attention_bias=True),
    "qwen3, layer types": _family(
        "qwen3",
        "Qwen3ForCausalLM",
        head_dim=8,
        use_sliding_window=True,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gpt2": GPT2,
    "gpt2, every switch": GPT2
    | {
        "n_inner": 40,
        "activation_function": "gelu",
        "scale_attn_by_inverse_layer_idx": True,
        "tie_word_embeddings": False,
    },
    "gpt2, unscaled": GPT2 | {"activation_function": "relu", "scale_attn_weights": False},
    "mamba": MAMBA,
    "mamba, every switch": MAMBA
    | {"use_bias": True, "use_conv_bias": False, "conv_kernel": 3, "expand": 3, "tie_word_embeddings": False},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_matches_the_published_architecture(tmp_path, name):
    config = CONFIGS[name]
    tensors = random_tensors(config)
    model = load(write(tmp_path / "model", config, tensors))
    tokens = np.random.default_rng(1).integers(0, 61, (2, LENGTH), np.int32)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (2, 1))
    ours = jax.jit(model.apply)(model.params, tokens, positions, np.ones_like(tokens))
    expected = [logits(config, tensors, row) for row in tokens]
    assert ours.dtype == np.float32
    assert np.std(expected) > 0.5
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "window" in name or "layer types" in name])
def test_windows_apply_across_chunks(tmp_path, name):
    config = CONFIGS[name]
    tensors = random_tensors(config)
    model = load(write(tmp_path / "model", config, tensors))
    tokens = np.random.default_rng(1).integers(0, 61, (1, 24), np.int32)
    positions = np.arange(24, dtype=np.int32)[None]
    state, step, parts = model.init_state(model.params, 1), jax.jit(model.step), []
    for at in range(0, 24, 8):
        part = slice(at, at + 8)
        state, picked = step(
            model.params, state, tokens[:, part], positions[:, part], np.ones((1, 8), np.int32)
        )
        parts.append(model.head(model.params, picked[0]))
    np.testing.assert_allclose(np.concatenate(parts), logits(config, tensors, tokens[0]), rtol=0, atol=1e-4)


def test_every_setting_changes_logits():
    """Otherwise, a setting that the reference itself ignores would not be tested."""
    tokens = np.random.default_rng(1).integers(0, 61, LENGTH)
    pairs = [
        (CONFIGS["mistral, window"], {"sliding_window": None}),
        (CONFIGS["qwen2, window from the second layer"], {"max_window_layers": 2}),
        (CONFIGS["qwen3, layer types"], {"layer_types": None, "max_window_layers": 0}),
        (CONFIGS["llama, llama3 rope"], {"rope_scaling": None}),
        (CONFIGS["llama, linear rope, gelu"], {"rope_scaling": None}),
        (CONFIGS["gpt2, every switch"], {"scale_attn_by_inverse_layer_idx": False}),
        (CONFIGS["gpt2, every switch"], {"activation_function": "gelu_new"}),
    ]
    for config, change in pairs:
        tensors = random_tensors(config)
        gap = np.abs(logits(config, tensors, tokens) - logits(config | change, tensors, tokens)).max()
        assert gap > 1e-4 if "activation_function" in change else gap > 1e-2, (change, gap)
