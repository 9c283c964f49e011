"""What is read from a directory, where it goes, and what is refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from reference_models import GPT2, LLAMA, MAMBA, random_tensors, write
from windrow.models import checkpoint, config_max_length, llama, load, parameters
from windrow.models.config import Fields

QWEN2 = LLAMA | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
MISTRAL = LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}


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
    """Writes a checkpoint with some fields and tensors changed; a tensor of ``None`` is left out."""

    def saved(config, fields=(), tensors=(), **options):
        whole = random_tensors(config) | dict(tensors)
        kept = {name: tensor for name, tensor in whole.items() if tensor is not None}
        return write(tmp_path / "model", config | dict(fields), kept, **options)

    return saved


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize("config", [LLAMA, GPT2, MAMBA], ids=["llama", "gpt2", "mamba"])
def test_parameters_are_the_stored_tensors(save, config):
    model, tensors = load(save(config)), random_tensors(config)
    stored = sum(tensor.size for tensor in tensors.values())
    assert sum(leaf.size for leaf in jax.tree.leaves(model.params)) == stored
    total = sum(np.abs(tensor).sum(dtype=np.float64) for tensor in tensors.values())
    ours = sum(np.abs(leaf).sum(dtype=np.float64) for leaf in map(np.asarray, jax.tree.leaves(model.params)))
    np.testing.assert_allclose(ours, total, rtol=1e-9)


@pytest.mark.parametrize("config", [LLAMA, GPT2, MAMBA], ids=["llama", "gpt2", "mamba"])
def test_shards_are_one_checkpoint(tmp_path, config):
    tensors = random_tensors(config)
    same(
        load(write(tmp_path / "one", config, tensors)),
        load(write(tmp_path / "three", config, tensors, shards=3)),
    )


def test_the_base_models_names(tmp_path):
    tensors = random_tensors(GPT2)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    buffers = {
        "h.0.attn.bias": np.ones((1, 1, 64, 64), np.float32),
        "h.1.attn.masked_bias": np.ones(1, np.float32),
    }
    same(load(write(tmp_path / "a", GPT2, tensors)), load(write(tmp_path / "b", GPT2, bare | buffers)))


def test_what_old_checkpoints_hold_besides(save):
    load(save(LLAMA, tensors={"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}))


@pytest.mark.parametrize("stored", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_stored_dtypes_are_cast(tmp_path, stored):
    tensors = random_tensors(QWEN2, dtype=stored)
    model = load(write(tmp_path / "model", QWEN2, tensors), dtype="float32")
    expected = tensors["model.layers.2.self_attn.q_proj.bias"].astype(np.float32)
    np.testing.assert_array_equal(np.ravel(model.params["layers"]["q_bias"][2]), expected)
    half = load(tmp_path / "model", dtype="bfloat16")
    np.testing.assert_array_equal(
        np.ravel(half.params["layers"]["q_bias"][2]),
        tensors["model.layers.2.self_attn.q_proj.bias"].astype(ml_dtypes.bfloat16),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_larger_than_a_block(save, monkeypatch, dtype):
    """Tensors that are cast or cut are read in blocks of rows."""
    directory, mesh = save(LLAMA), jax.make_mesh((4, 2), ("data", "tensor"))
    whole = load(directory, dtype=dtype)
    monkeypatch.setattr(checkpoint, "_BLOCK_BYTES", 500)
    same(load(directory, dtype=dtype), whole)
    same(load(directory, dtype=dtype, mesh=mesh), whole)


def test_parameters_are_not_copied_on_cpus(save, monkeypatch):
    made = []

    def noted(shape, dtype, inner=parameters._aligned):
        made.append(inner(shape, dtype))
        return made[-1]

    monkeypatch.setattr(parameters, "_aligned", noted)
    leaves = jax.tree.leaves(load(save(LLAMA)).params)
    assert {leaf.unsafe_buffer_pointer() for leaf in leaves} == {memory.ctypes.data for memory in made}


# Placement


def test_each_device_reads_its_own_piece(save, monkeypatch):
    read = []

    def noted(self, out, name, index, inner=checkpoint.Checkpoint.read_into):
        inner(self, out, name, index)
        read.append((name, out.size))

    monkeypatch.setattr(checkpoint.Checkpoint, "read_into", noted)
    directory = save(LLAMA | {"vocab_size": 62})
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    params = load(directory, mesh=mesh).params
    tensors = random_tensors(LLAMA | {"vocab_size": 62})
    halved = [name for name, size in read if size * 2 == tensors[name].size]
    assert len(read) == len(set(read)) + len(halved) // 2  # the two halves of a tensor have one size
    assert {name.split(".")[-2] for name in halved} == {
        "embed_tokens",
        "lm_head",
        *(f"{each}_proj" for each in ("q", "k", "v", "o", "gate", "up", "down")),
    }
    for leaf in jax.tree.leaves(params):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(leaf)[shard.index])
    same(load(directory), load(directory, mesh=mesh))


@pytest.mark.parametrize("config", [GPT2, MAMBA], ids=["gpt2", "mamba"])
def test_placed_parameters_are_the_same(save, config):
    directory = save(config)
    same(load(directory), load(directory, mesh=jax.make_mesh((2, 4), ("model", "data"))))


def test_what_a_tensor_axis_does_not_divide_is_whole(save):
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))
    layers = load(save(LLAMA), mesh=mesh).params["layers"]
    assert layers["q"].sharding.spec == PartitionSpec(None, "tensor")
    assert layers["k"].sharding.spec == PartitionSpec()
    assert layers["down"].sharding.spec == PartitionSpec(None, None, "tensor")


@pytest.mark.parametrize(
    ("names", "asked", "axis"),
    [(("data", "tp"), None, "tp"), (("rows", "wide"), "wide", "wide"), (("rows", "wide"), None, None)],
)
def test_which_axis_divides(save, names, asked, axis):
    mesh = jax.make_mesh((4, 2), names)
    spec = load(save(LLAMA), mesh=mesh, tensor_axis=asked).params["layers"]["up"].sharding.spec
    assert spec == (PartitionSpec(None, axis) if axis else PartitionSpec())


# Lengths


@pytest.mark.parametrize(
    ("config", "stated", "limit"),
    [(LLAMA, 64, 64), (GPT2, 64, 64), (MAMBA, None, 2048)],
    ids=["llama", "gpt2", "mamba"],
)
def test_length_is_the_configurations(save, config, stated, limit):
    directory = save(config)
    assert config_max_length(directory) == stated
    assert load(directory).max_length == limit
    assert load(directory, max_length=31).max_length == 31


def test_length_where_nothing_is_stated(save):
    assert load(save(QWEN2, {"max_position_embeddings": None})).max_length == 32768


def test_recurrent_models_may_be_unbounded(save):
    directory = save(MAMBA)
    assert load(directory, max_length=None).max_length is None
    assert load(directory, max_length="unbounded").max_length is None


def test_the_cache_has_as_many_slots_as_asked_for(save):
    model = load(save(LLAMA), max_length=17)
    assert model.init_state(model.params, 5).keys.shape == (5, 3, 2, 17, 6)
    assert model.init_state(model.params, 5, length=9).keys.shape == (5, 3, 2, 9, 6)


# What is refused


def refused(pattern, directory, error=ValueError, **options):
    with pytest.raises(error, match=pattern):
        load(directory, **options)


def test_missing_files(tmp_path, save):
    refused("not a directory; .*snapshot_download", tmp_path / "nowhere", FileNotFoundError)
    refused(r"config.json is missing", tmp_path, FileNotFoundError)
    directory = save(LLAMA)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused(r"neither model.safetensors nor .*pytorch_model.bin.*safetensors", directory, FileNotFoundError)


def test_an_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(r"holds an adapter \(adapter_config.json\), not a model; merge", tmp_path, FileNotFoundError)


def test_incomplete_files(save):
    directory = save(LLAMA)
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 4, 0):
        path.write_bytes(whole[:size])
        refused(r"model.safetensors is not .* or is incomplete: .*; download it again", directory)


def test_damaged_files(save):
    directory = save(LLAMA)
    (directory / "model.safetensors").write_bytes(b"\xff" * 100)
    refused(r"model.safetensors is not a valid safetensors file, .*download it again", directory)
    (directory / "config.json").write_text("{")
    refused(r"config.json is not valid JSON", directory)
    (directory / "config.json").write_text("[1]")
    refused(r"config.json must hold a JSON object, not list", directory)


def test_damaged_index(save):
    directory = save(LLAMA, shards=2)
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())["weight_map"]
    path.write_text(json.dumps({"weight_map": index | {"extra": "model-00001-of-00002.safetensors"}}))
    refused(r"00001-of-00002.safetensors: tensor 'extra', listed in .*index.json, is missing", directory)
    path.write_text(json.dumps({"weight_map": index | {"extra": "model-00003.safetensors"}}))
    refused(r"model-00003.safetensors is listed in .*index.json but missing", directory, FileNotFoundError)
    path.write_text(json.dumps({"weight_map": ["a"]}))
    refused(r"'weight_map' must map tensor names to file names", directory)


ALL = (
    r"llama \(LlamaForCausalLM\).*MistralFor.*Qwen2For.*Qwen3For.*GPT2LM.*MambaFor.*factory=module:function; "
    r"examples/any_hf.py in windrow.s repository"
)


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        (
            {"model_type": "retnet", "architectures": ["RetNetForCausalLM"]},
            f"model_type 'retnet' is not supported.*{ALL}",
        ),
        ({"model_type": None}, f"model_type None.*{ALL}"),
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
def test_configurations(save, fields, pattern):
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
def test_configurations_of_other_families(save, config, fields, pattern):
    refused(pattern, save(config, fields))


@pytest.mark.parametrize(
    ("config", "switches", "windows"),
    [
        (MISTRAL, {}, (4096, 4096, 4096)),
        (QWEN2, {}, None),
        (QWEN2, {"use_sliding_window": True, "max_window_layers": 1}, (2**30, 4096, 4096)),
    ],
)
def test_a_window_whose_width_is_not_said(config, switches, windows):
    assert llama.read_config(Fields(config | switches, Path("config.json"))).windows == windows


def outcome(directory, **options):
    """Logits for a few tokens, and how many parameters the model has."""
    model = load(directory, **options)
    tokens = np.array([[1, 5, 9, 33, 2, 7, 50, 3, 4, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]], np.int32)
    positions, ids = np.arange(20, dtype=np.int32)[None], np.ones((1, 20), np.int32)
    logits = np.asarray(model.apply(model.params, *map(jnp.asarray, (tokens, positions, ids))))
    return logits, sum(leaf.size for leaf in jax.tree.leaves(model.params))


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
    """Each was tried there, by itself: the logits of transformers 5.24 do not change."""
    expected, count = outcome(save(config))
    logits, found = outcome(save(config, IGNORED_BY_ALL | fields))
    np.testing.assert_array_equal(logits, expected)
    assert found == count


def test_gpt2_under_the_usual_names(save):
    """As in transformers 5.24, where they outweigh GPT-2's own."""
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
def test_what_counts_of_the_rope_settings(save, fields, same_as):
    """As transformers 5.24 gives equal logits for the two."""
    np.testing.assert_array_equal(outcome(save(LLAMA, fields))[0], outcome(save(LLAMA, same_as))[0])


@pytest.mark.parametrize(
    ("tensors", "pattern"),
    [
        (
            {"model.layers.1.mlp.up_proj.weight": None},
            r"model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight', \[36, 24\], is missing",
        ),
        (
            {"model.layers.1.mlp.up_proj.weight": np.ones((24, 36), np.float32)},
            r"model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight' must have shape "
            r"\[36, 24\] according to config.json, not \[24, 36\]",
        ),
        (
            {"model.norm.weight": np.ones(24, np.int8)},
            r"'model.norm.weight' must be floating point \(F32, BF16, F16 or F64\), not I8",
        ),
        (
            {"model.layers.3.mlp.up_proj.weight": np.ones((2, 2), np.float32)},
            r"model.safetensors: unexpected tensor 'model.layers.3.mlp.up_proj.weight', \[2, 2\]",
        ),
        ({"lm_head.weight": None}, r"'lm_head.weight', \[61, 24\], is missing"),
    ],
)
def test_tensors(save, tensors, pattern):
    refused(pattern, save(LLAMA, tensors=tensors))


def test_a_tensor_missing_from_shards(save):
    directory = save(LLAMA, tensors={"model.norm.weight": None}, shards=2)
    refused("index.json: tensor 'model.norm.weight'.* is missing", directory)


HEADS = {"llama": LLAMA, "gpt2": GPT2, "mamba": MAMBA}
EMBEDDINGS = {
    "llama": "model.embed_tokens.weight",
    "gpt2": "transformer.wte.weight",
    "mamba": "backbone.embeddings.weight",
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_tied_head_that_is_stored(save, kind):
    """transformers 5.24 uses a head that differs; lm_eval's HFLM ties once more and does not."""
    free, tied = ({**HEADS[kind], "tie_word_embeddings": value} for value in (False, True))
    tensors = random_tensors(free)
    embedding, head = tensors[EMBEDDINGS[kind]], tensors["lm_head.weight"]
    assert not np.array_equal(embedding, head)
    own, whole = outcome(save(free))
    shared, fewer = outcome(save(tied))
    assert whole - fewer == embedding.size
    other = save(tied, tensors={"lm_head.weight": head})
    with pytest.warns(UserWarning, match="'lm_head.weight' differs from .*; both are used as stored"):
        np.testing.assert_array_equal(outcome(other)[0], own)
    with pytest.warns(UserWarning, match="'lm_head.weight' differs from .*; the embedding is used for both"):
        logits, found = outcome(other, retie=True)
    np.testing.assert_array_equal(logits, shared)
    assert found == fewer
    alone = save(tied, tensors={"lm_head.weight": embedding, EMBEDDINGS[kind]: None})
    np.testing.assert_array_equal(outcome(alone)[0], shared)
    np.testing.assert_array_equal(outcome(save(tied, tensors={"lm_head.weight": embedding}))[0], shared)


DTYPES = {
    "float32": ["float32", "float", "torch.float32", jnp.float32, np.float32, None],
    "float16": ["float16", "half", "torch.half", "fp16"],
    "bfloat16": ["bfloat16", "bf16", "torch.bfloat16", jnp.bfloat16, ml_dtypes.bfloat16],
}


@pytest.mark.parametrize("kind", DTYPES)
def test_how_a_dtype_may_be_written(save, kind):
    directory = save(LLAMA)
    for written in DTYPES[kind]:
        assert load(directory, dtype=written).params["norm"].dtype == kind


def test_the_dtype_may_be_left_to_the_files(save):
    """As with transformers 5.24: the configuration's, else that of the stored tensors."""
    plain = {name: value for name, value in LLAMA.items() if name != "torch_dtype"}

    def found(fields, stored=np.float32):
        return (
            load(save(plain | fields, tensors=random_tensors(LLAMA, dtype=stored)), dtype="auto")
            .params["norm"]
            .dtype
        )

    assert found({"torch_dtype": "bfloat16"}) == jnp.bfloat16
    assert found({"dtype": "float16"}) == jnp.float16
    assert found({}) == jnp.float32
    assert found({}, ml_dtypes.bfloat16) == jnp.bfloat16
    with pytest.raises(ValueError, match=r"not 'float64' \(from .*model\)"):
        found({"dtype": "float64"})


@pytest.mark.parametrize(
    ("options", "pattern", "error"),
    [
        (
            {"dtype": "int8"},
            "dtype must be auto or one of float32, bfloat16, float16, not 'int8'",
            ValueError,
        ),
        ({"dtype": "double"}, "dtype must be auto or one of .*, not 'double'", ValueError),
        ({"mesh": "tensor"}, "mesh must be a jax.sharding.Mesh or None, not str", TypeError),
        ({"tensor_axis": "tensor"}, "tensor_axis='tensor' needs a mesh", ValueError),
        ({"max_length": 0}, "max_length must be a whole number of at least 1", ValueError),
        ({"max_length": True}, "max_length must be", ValueError),
        ({"max_length": "64"}, "max_length must be", ValueError),
        ({"max_length": "unbounded"}, "is only for recurrent models, .*give a number", ValueError),
        ({"max_length": None}, "is only for recurrent models", ValueError),
    ],
)
def test_arguments(save, options, pattern, error):
    refused(pattern, save(LLAMA), error, **options)


def test_arguments_that_do_not_fit_the_model(save):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    refused("is not an axis of the mesh, which has data, tensor", save(LLAMA), mesh=mesh, tensor_axis="heads")
    refused("max_length must be at most the model's 64 positions, not 65", save(GPT2), max_length=65)
