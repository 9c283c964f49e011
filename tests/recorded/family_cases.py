"""The configurations whose logits are recorded: model families with various fields."""

_BASE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def _case(kind, **fields):
    return _BASE | {"model_type": kind} | fields


def _without_key_heads(kind, **fields):
    """A case without the field for key heads, as in files that rely on the family's default."""
    return {name: value for name, value in _case(kind, **fields).items() if name != "num_key_value_heads"}


def _rope(kind, **fields):
    return {"rope_type": kind, "rope_theta": 500.0} | fields


_SHORT, _LONG = [1.0, 1.1, 1.3, 1.7], [1.5, 2.0, 4.0, 9.0]
_LONGROPE = {"short_factor": _SHORT, "long_factor": _LONG}
_QWEN3_MOE = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "head_dim": 12,
    "num_hidden_layers": 4,
}
_MAMBA2 = {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2}
_XLSTM = {"num_heads": 4, "max_position_embeddings": None, "chunk_size": 16}

CASES = {
    "gpt_neox": _case("gpt_neox"),
    "gpt_neox, serial": _case(
        "gpt_neox", use_parallel_residual=False, rotary_pct=0.5, rotary_emb_base=200, hidden_act="gelu_fast"
    ),
    "gpt_neox, no biases, whole rotary, tied": _case(
        "gpt_neox", attention_bias=False, rotary_pct=1.0, tie_word_embeddings=True, layer_norm_eps=1e-3
    ),
    "gpt_neox, linear": _case(
        "gpt_neox", rope_scaling={"type": "linear", "factor": 3.0}, rotary_pct=0.5, rotary_emb_base=100
    ),
    "gpt_neox, odd rotary part": _case(
        "gpt_neox",
        rope_parameters={"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 0.63},
    ),
    "llama, biases": _case("llama", attention_bias=True, mlp_bias=True, head_dim=10),
    "mistral": _case("mistral", sliding_window=30, head_dim=None),
    "qwen2": _case("qwen2", use_sliding_window=True, sliding_window=25, max_window_layers=1),
    "qwen3": _case("qwen3", head_dim=12, attention_bias=True),
    "mistral, default heads": _without_key_heads("mistral", hidden_size=64, num_attention_heads=16),
    "qwen2, default heads": _without_key_heads("qwen2", hidden_size=64, num_attention_heads=32),
    "qwen3, default heads": _without_key_heads("qwen3", num_attention_heads=32, num_hidden_layers=2),
    "gpt2": _case("gpt2", activation_function="gelu_new"),
    "mamba": _case("mamba", state_size=8, use_bias=True),
    "mamba, gelu": _case("mamba", state_size=8, hidden_act="gelu", time_step_rank=5, use_conv_bias=False),
    "llama, yarn": _case(
        "llama", rope_parameters=_rope("yarn", factor=4.0, original_max_position_embeddings=64)
    ),
    "llama, yarn, own field": _case(
        "llama",
        rope_theta=100.0,
        original_max_position_embeddings=32,
        rope_scaling={"type": "yarn", "factor": 8.0, "beta_fast": 16, "beta_slow": 2},
    ),
    "llama, yarn, mscale": _case(
        "llama",
        rope_scaling=_rope(
            "yarn", factor=4.0, original_max_position_embeddings=64, mscale=0.7, mscale_all_dim=1.2
        ),
    ),
    "llama, yarn, not truncated": _case(
        "llama",
        rope_scaling=_rope(
            "yarn", factor=4.0, original_max_position_embeddings=64, truncate=False, attention_factor=1.3
        ),
    ),
    "llama, yarn, factor from lengths": _case(
        "llama", rope_parameters=_rope("yarn", factor=None, original_max_position_embeddings=32)
    ),
    "llama, dynamic": _case(
        "llama", rope_parameters=_rope("dynamic", factor=2.0), max_position_embeddings=64
    ),
    "llama, dynamic, short": _case("llama", rope_parameters=_rope("dynamic", factor=2.0)),
    "llama, longrope": _case(
        "llama", rope_parameters=_rope("longrope", **_LONGROPE, original_max_position_embeddings=64)
    ),
    "llama, longrope, factors": _case(
        "llama",
        rope_parameters=_rope(
            "longrope", **_LONGROPE, factor=3.0, original_max_position_embeddings=64, attention_factor=1.2
        ),
    ),
    "llama, llama3": _case(
        "llama",
        rope_scaling=_rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "qwen2, yarn": _case(
        "qwen2", rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    ),
    "phi3": _case("phi3"),
    "phi3, window": _case("phi3", sliding_window=30, rms_norm_eps=1e-3, num_key_value_heads=None),
    "phi3, longrope": _case(
        "phi3", original_max_position_embeddings=64, rope_scaling={"type": "longrope", **_LONGROPE}
    ),
    "phi3, su": _case(
        "phi3",
        original_max_position_embeddings=64,
        rope_scaling={"type": "su", **_LONGROPE, "original_max_position_embeddings": 64},
        rope_theta=300.0,
    ),
    "phi3, longrope, length in the settings": _case(
        "phi3",
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 300.0,
            "original_max_position_embeddings": 64,
            **_LONGROPE,
        },
    ),
    "phi3, partial": _case("phi3", partial_rotary_factor=0.75, tie_word_embeddings=True),
    "phi3, partial, longrope": _case(
        "phi3",
        partial_rotary_factor=0.75,
        original_max_position_embeddings=64,
        rope_scaling={"type": "longrope", "short_factor": _SHORT[:3], "long_factor": _LONG[:3]},
    ),
    "gemma2": _case("gemma2", head_dim=10, sliding_window=20, query_pre_attn_scalar=24),
    "gemma2, no caps": _case(
        "gemma2",
        head_dim=8,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        attention_bias=True,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        sliding_window=33,
        tie_word_embeddings=False,
    ),
    "gemma2, strong caps": _case(
        "gemma2", head_dim=8, attn_logit_softcapping=1.5, final_logit_softcapping=3.0, rope_theta=77.0
    ),
    "gemma2, default heads": _without_key_heads("gemma2", num_attention_heads=8),
    "gemma3_text": _case("gemma3_text", head_dim=12, sliding_window=20, num_hidden_layers=7),
    "gemma3_text, default heads": _without_key_heads("gemma3_text", num_attention_heads=8),
    "gemma3_text, settings": _case(
        "gemma3_text",
        head_dim=8,
        sliding_window=16,
        sliding_window_pattern=2,
        query_pre_attn_scalar=13,
        rope_theta=5000.0,
        rope_local_base_freq=50.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        attn_logit_softcapping=4.0,
        final_logit_softcapping=9.0,
        attention_bias=True,
    ),
    "gemma3_text, newer spelling": _case(
        "gemma3_text",
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": _rope("linear", factor=2.0),
            "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
        },
    ),
    "mixtral": _case("mixtral", num_local_experts=4, num_experts_per_tok=2),
    "mixtral, window": _case(
        "mixtral", num_local_experts=5, num_experts_per_tok=3, sliding_window=30, head_dim=6, rope_theta=90.0
    ),
    "qwen3_moe": _case("qwen3_moe", **_QWEN3_MOE),
    "qwen3_moe, some layers dense": _case(
        "qwen3_moe",
        **_QWEN3_MOE | {"mlp_only_layers": [1], "decoder_sparse_step": 1, "norm_topk_prob": True},
        use_sliding_window=True,
        sliding_window=25,
        attention_bias=True,
    ),
    "qwen3_moe, every other layer": _case(
        "qwen3_moe", **_QWEN3_MOE | {"decoder_sparse_step": 2, "num_experts_per_tok": 1}
    ),
    "qwen3_moe, no experts": _case(
        "qwen3_moe", **_QWEN3_MOE | {"decoder_sparse_step": 5}, attention_bias=True
    ),
    "olmo2": _case("olmo2"),
    "olmo2, settings": _case(
        "olmo2",
        num_key_value_heads=4,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_theta=99.0,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
    ),
    "olmo3": _case("olmo3", num_hidden_layers=5, sliding_window=20),
    "olmo3, settings": _case(
        "olmo3",
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        sliding_window=30,
        rope_theta=300.0,
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        attention_bias=True,
    ),
    "smollm3": _case("smollm3", num_hidden_layers=5, tie_word_embeddings=False),
    "smollm3, settings": _case(
        "smollm3",
        no_rope_layers=[0, 1, 0],
        use_sliding_window=True,
        sliding_window=30,
        attention_bias=True,
        mlp_bias=True,
        rope_theta=70.0,
    ),
    "smollm3, interval": _case("smollm3", no_rope_layer_interval=2, layer_types=["full_attention"] * 3),
    "granite": _case("granite"),
    "granite, settings": _case(
        "granite",
        embedding_multiplier=6.0,
        logits_scaling=3.0,
        residual_multiplier=0.4,
        attention_multiplier=0.21,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        rope_theta=60.0,
    ),
    "mamba2": _case("mamba2", **_MAMBA2),
    "mamba2, settings": _case(
        "mamba2",
        **_MAMBA2 | {"expand": 6, "num_heads": 12, "n_groups": 4, "conv_kernel": 3},
        use_bias=True,
        use_conv_bias=False,
        time_step_limit=[0.02, 0.3],
        residual_in_fp32=False,
        tie_word_embeddings=True,
        chunk_size=16,
    ),
    "xlstm": _case("xlstm", **_XLSTM),
    "xlstm, fused, biases": _case(
        "xlstm", **_XLSTM, weight_mode="fused", use_bias=True, gate_soft_cap=3.0, output_logit_soft_cap=2.0
    ),
    "xlstm, settings": _case(
        "xlstm",
        **_XLSTM | {"num_heads": 2, "qk_dim_factor": 1.0, "v_dim_factor": 2.0, "chunk_size": 32},
        eps=0.1,
        norm_eps=1e-3,
        ffn_proj_factor=1.3,
        ffn_round_up_to_multiple_of=8,
        tie_word_embeddings=True,
    ),
}

FAMILIES = [
    "llama, biases",
    "mistral",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt_neox, serial",
    "phi3, partial",
    "gemma2",
    "gemma3_text, settings",
    "mixtral, window",
    "qwen3_moe, some layers dense",
    "olmo2, settings",
    "olmo3, settings",
    "smollm3, settings",
    "granite, settings",
]
RECURRENT = ["mamba", "mamba2, settings", "xlstm, fused, biases"]
"""One case of every model type."""
