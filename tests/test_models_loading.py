"""Loading a checkpoint: what is read, where it is placed, and which files and arguments are rejected."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import random_checkpoints
from random_checkpoints import QWEN2, outcome, refused
from reference_models import GPT2, LLAMA, MAMBA, random_tensors, write
from windrow.models import checkpoint, config_max_length, load, parameters


@pytest.fixture
def save(tmp_path):
    return partial(random_checkpoints.save, tmp_path)


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
def test_sharded_checkpoint(tmp_path, config):
    tensors = random_tensors(config)
    same(
        load(write(tmp_path / "one", config, tensors)),
        load(write(tmp_path / "three", config, tensors, shards=3)),
    )


def test_tensor_names_of_the_base_model(tmp_path):
    tensors = random_tensors(GPT2)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    buffers = {
        "h.0.attn.bias": np.ones((1, 1, 64, 64), np.float32),
        "h.1.attn.masked_bias": np.ones(1, np.float32),
    }
    same(load(write(tmp_path / "a", GPT2, tensors)), load(write(tmp_path / "b", GPT2, bare | buffers)))


def test_buffers_of_old_checkpoints_are_ignored(save):
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
    """Tensors that are cast or split are read in blocks of rows."""
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


def test_each_device_reads_only_its_own_part(save, monkeypatch):
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
    assert len(read) == len(set(read)) + len(halved) // 2  # both halves of a tensor have the same size
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


def test_axes_not_divisible_by_the_tensor_axis_are_replicated(save):
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))
    layers = load(save(LLAMA), mesh=mesh).params["layers"]
    assert layers["q"].sharding.spec == PartitionSpec(None, "tensor")
    assert layers["k"].sharding.spec == PartitionSpec()
    assert layers["down"].sharding.spec == PartitionSpec(None, None, "tensor")


@pytest.mark.parametrize(
    ("names", "asked", "axis"),
    [(("data", "tp"), None, "tp"), (("rows", "wide"), "wide", "wide"), (("rows", "wide"), None, None)],
)
def test_axis_that_splits_parameters(save, names, asked, axis):
    mesh = jax.make_mesh((4, 2), names)
    spec = load(save(LLAMA), mesh=mesh, tensor_axis=asked).params["layers"]["up"].sharding.spec
    assert spec == (PartitionSpec(None, axis) if axis else PartitionSpec())


# Lengths


@pytest.mark.parametrize(
    ("config", "stated", "limit"),
    [(LLAMA, 64, 64), (GPT2, 64, 64), (MAMBA, None, 2048)],
    ids=["llama", "gpt2", "mamba"],
)
def test_length_in_the_configuration(save, config, stated, limit):
    directory = save(config)
    assert config_max_length(directory) == stated
    assert load(directory).max_length == limit
    assert load(directory, max_length=31).max_length == 31


def test_length_without_one_in_the_configuration(save):
    assert load(save(QWEN2, {"max_position_embeddings": None})).max_length == 32768


def test_recurrent_models_can_be_unbounded(save):
    directory = save(MAMBA)
    assert load(directory, max_length=None).max_length is None
    assert load(directory, max_length="unbounded").max_length is None


def test_number_of_cache_slots(save):
    model = load(save(LLAMA), max_length=17)
    assert model.init_state(model.params, 5).keys.shape == (5, 3, 2, 17, 6)
    assert model.init_state(model.params, 5, length=9).keys.shape == (5, 3, 2, 9, 6)


# What is rejected


def test_missing_files(tmp_path, save):
    refused("not a directory; .*snapshot_download", tmp_path / "nowhere", FileNotFoundError)
    refused(r"config.json is missing", tmp_path, FileNotFoundError)
    directory = save(LLAMA)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused(r"neither model.safetensors nor .*pytorch_model.bin.*safetensors", directory, FileNotFoundError)


def test_adapter_checkpoint_is_refused(tmp_path):
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
def test_rejected_tensors(save, tensors, pattern):
    refused(pattern, save(LLAMA, tensors=tensors))


def test_tensor_missing_from_shards(save):
    directory = save(LLAMA, tensors={"model.norm.weight": None}, shards=2)
    refused("index.json: tensor 'model.norm.weight'.* is missing", directory)


HEADS = {"llama": LLAMA, "gpt2": GPT2, "mamba": MAMBA}


EMBEDDINGS = {
    "llama": "model.embed_tokens.weight",
    "gpt2": "transformer.wte.weight",
    "mamba": "backbone.embeddings.weight",
}


@pytest.mark.parametrize("kind", HEADS)
def test_stored_head_of_a_tied_model(save, kind):
    """transformers 5.24 uses a stored head that differs; lm_eval's HFLM ties it to the embedding again."""
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
def test_spellings_of_dtypes(save, kind):
    directory = save(LLAMA)
    for written in DTYPES[kind]:
        assert load(directory, dtype=written).params["norm"].dtype == kind


def test_dtype_from_the_files(save):
    """As in transformers 5.24, the configuration's dtype, else that of the stored tensors."""
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
def test_rejected_arguments(save, options, pattern, error):
    refused(pattern, save(LLAMA), error, **options)


def test_arguments_that_do_not_fit_the_model(save):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    refused("is not an axis of the mesh, which has data, tensor", save(LLAMA), mesh=mesh, tensor_axis="heads")
    refused("max_length must be at most the model's 64 positions, not 65", save(GPT2), max_length=65)
