"""Fields of ``config.json``: which are rejected, which are ignored, and their defaults."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import random_checkpoints
from random_checkpoints import MISTRAL, QWEN2, outcome, refused
from reference_models import GPT2, LLAMA, MAMBA
from windrow.models import llama
from windrow.models.config import Fields

IGNORED_BY_ALL = {
    "logit_scale": 0.5, "final_logit_softcapping": 0.1, "attn_logit_softcapping": 0.1, "scale_emb": 12,
    "query_pre_attn_scalar": 7, "residual_multiplier": 0.3, "embedding_multiplier": 3.0,
    "logits_scaling": 4.0, "attention_multiplier": 0.2, "partial_rotary_factor": 0.5, "rotary_pct": 0.25,
    "rope_interleaved": True, "use_mrope": True, "use_qk_norm": True, "clip_qkv": 0.01,
    "attention_chunk_size": 2, "alibi": True, "norm_eps": 0.5, "use_parallel_residual": True,
    "num_local_experts": 4, "router_aux_loss_coef": 0.1, "pretraining_tp": 2, "attention_dropout": 0.5,
    "auto_map": {"AutoModelForCausalLM": "modeling_x.X"},
    "custom_field": "x", "is_decoder": False, "use_cache": False, "torch_dtype": "bfloat16",
    "architectures": ["LlamaForSequenceClassification"], "num_layers": 1, "add_cross_attention": True,
}  # fmt: skip
IGNORED_BY_LLAMA = {"sliding_window": 2, "use_sliding_window": True, "layer_norm_epsilon": 0.5, "n_embd": 12}
IGNORED_BY_QWEN2 = {"attention_bias": True, "mlp_bias": True, "sliding_window": 2, "max_window_layers": 1}
IGNORED_BY_MAMBA = {"rms_norm": False, "is_causal": False, "attention_bias": True, "head_dim": 8}
IGNORED_BY_GPT2 = {"rms_norm_eps": 0.5, "hidden_act": "relu", "head_dim": 8, "sliding_window": 2, "n_ctx": 5}


@pytest.fixture
def save(tmp_path):
    return partial(random_checkpoints.save, tmp_path)


SUPPORTED = (
    r"llama \(LlamaForCausalLM\).*MistralFor.*Qwen2For.*Qwen3For.*GPT2LM.*MambaFor.*factory=module:function; "
    r"examples/any_hf.py in windrow.s repository"
)


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        (
            {"model_type": "retnet", "architectures": ["RetNetForCausalLM"]},
            f"model_type 'retnet' is not supported.*{SUPPORTED}",
        ),
        ({"model_type": None}, f"model_type None.*{SUPPORTED}"),
        (
            {"rope_scaling": {"rope_type": "axial", "factor": 4.0}},
            r"rope_type\) is 'axial'; known: default, linear, dynamic, .*, llama3.* Otherwise .*factory=",
        ),
        ({"rope_scaling": {"type": "dynamic"}}, r"rope kind 'dynamic' needs 'factor', a number above 0"),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "factor": 2.0}},
            r"rope kind 'longrope' needs 'short_factor', a list of 3 numbers, not a list of 1",
        ),
        ({"rope_scaling": {"rope_type": "linear"}}, r"rope kind 'linear' needs 'factor'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
        ({"rope_scaling": [1]}, "'rope_scaling' must be an object or null"),
        ({"hidden_act": "xielu"}, r"'hidden_act' is 'xielu'; known: gelu, .*examples/any_hf.py"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config'.*not supported.*factory="),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            r"the checkpoint is quantized \(gptq\) \(field 'quantization_config'\), which is not.*factory=",
        ),
        (
            {"model_type": "t5", "is_encoder_decoder": True},
            "model_type 't5' is an encoder-decoder model; only causal text models are supported",
        ),
        (
            {"model_type": "gemma3", "vision_config": {"hidden_size": 8}, "text_config": {}},
            "model_type 'gemma3' is a model of text and images; only causal text models are supported",
        ),
        ({"per_layer_config": {"0": {"hidden_act": "relu"}}}, "'per_layer_config'"),
        ({"is_causal": False}, r"'is_causal' is False; known: True.*factory="),
        ({"hidden_size": None}, "field 'hidden_size' is missing"),
        ({"num_hidden_layers": "3"}, r"'num_hidden_layers' must be a whole number of at least 1, not '3'"),
        ({"rms_norm_eps": 0}, r"'rms_norm_eps' must be a number above 0, not 0"),
        ({"attention_bias": "yes"}, r"'attention_bias' must be true or false, not 'yes'"),
        ({"num_key_value_heads": 3}, r"num_attention_heads \(4\) must be a multiple of .*\(3\)"),
        ({"head_dim": 5}, r"head_dim \(5\) even"),
    ],
    ids=str,
)
def test_rejected_configurations(save, fields, pattern):
    refused(f"(?s)config.json.*{pattern}", save(LLAMA, fields))


@pytest.mark.parametrize(
    ("config", "fields", "pattern"),
    [
        (MISTRAL, {"layer_types": ["chunked_attention"] * 3}, "'chunked_attention'; known: full_attention"),
        (MISTRAL, {"layer_types": ["full_attention"]}, "'layer_types' must list a kind for each of 3 layers"),
        (QWEN2, {"layer_types": ["sliding_attention"] * 3}, "no 'sliding_window' is in use"),
        (GPT2, {"is_causal": False}, "'is_causal' is False; known: True"),
        (GPT2, {"n_head": 5}, r"n_embd \(24\) must be a multiple of n_head \(5\)"),
        (MAMBA, {"quantization_config": {"bits": 4}}, "'quantization_config'"),
    ],
)
def test_rejected_configurations_of_other_families(save, config, fields, pattern):
    refused(pattern, save(config, fields))


@pytest.mark.parametrize(
    ("config", "switches", "windows"),
    [
        (MISTRAL, {}, (4096, 4096, 4096)),
        (QWEN2, {}, None),
        (QWEN2, {"use_sliding_window": True, "max_window_layers": 1}, (2**30, 4096, 4096)),
    ],
)
def test_default_width_of_a_sliding_window(config, switches, windows):
    assert llama.read_config(Fields(config | switches, Path("config.json"))).windows == windows


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (LLAMA, IGNORED_BY_LLAMA),
        (MISTRAL, {"attention_bias": True, "mlp_bias": True}),
        (QWEN2, IGNORED_BY_QWEN2),
        (GPT2, IGNORED_BY_GPT2),
        (MAMBA, IGNORED_BY_MAMBA),
    ],
    ids=["llama", "mistral", "qwen2", "gpt2", "mamba"],
)
def test_fields_that_transformers_ignores_are_ignored(save, config, fields):
    """Each field was tried separately: the logits of transformers 5.24 do not change."""
    expected, count = outcome(save(config))
    logits, found = outcome(save(config, IGNORED_BY_ALL | fields))
    np.testing.assert_array_equal(logits, expected)
    assert found == count


def test_gpt2_with_the_usual_field_names(save):
    """As in transformers 5.24, they take precedence over GPT-2's own names."""
    names = {
        "hidden_size": 24,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "max_position_embeddings": 64,
    }
    own = dict.fromkeys(("n_embd", "n_head", "n_layer", "n_positions"), 2)
    np.testing.assert_array_equal(outcome(save(GPT2, own | names))[0], outcome(save(GPT2))[0])


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LINEAR = {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("fields", "same_as"),
    [
        ({"rope_scaling": LINEAR | {"beta_fast": 3}}, {"rope_scaling": LINEAR}),
        ({"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 7.0}}, {"rope_scaling": LINEAR}),
        ({"rope_parameters": {"rope_theta": 100.0, "partial_rotary_factor": 0.5}}, {}),
        (
            {"rope_scaling": LLAMA3},
            {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}},
        ),
        (
            {
                "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64},
                "original_max_position_embeddings": 16,
            },
            {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 16}},
        ),
    ],
    ids=str,
)
def test_rope_settings_without_effect(save, fields, same_as):
    """Both configurations also have equal logits in transformers 5.24."""
    np.testing.assert_array_equal(outcome(save(LLAMA, fields))[0], outcome(save(LLAMA, same_as))[0])
