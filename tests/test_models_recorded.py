"""Every family, with many settings, compared with transformers; see tests/recorded/families.py."""

import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from exhaustive import quick
from windrow.models import experts, load, loading
from windrow.models.layers import ACTIVATIONS

FOLDER = Path(__file__).parent / "recorded"
sys.path.insert(0, str(FOLDER))

from family_cases import CASES, FAMILIES, RECURRENT  # noqa: E402
from random_weights import LENGTHS, PICKED, rows, write_checkpoint  # noqa: E402

SHAPES = json.loads((FOLDER / "families.json").read_text())
LOGITS = np.load(FOLDER / "families.npz")
ROUNDING = json.loads((FOLDER / "bfloat16.json").read_text())
UNLIKE = 0.05
"""The minimum change of logits by a setting that has an effect."""

KINDS = ["llama, biases", "gpt2", "gemma2", "mixtral, window", "mamba", "xlstm, fused, biases"]
"""Rotary and learned positions, windows and caps, experts, and two kinds of state."""

ACTIVATED = {
    "gelu": [-0.000126, -0.154269, 0.185373, 7, 12],
    "gelu_10": [-0.000126, -0.154269, 0.185373, 7, 10],
    "gelu_accurate": [-7e-05, -0.154286, 0.185371, 7, 12],
    "gelu_fast": [-7e-05, -0.154286, 0.185371, 7, 12],
    "gelu_new": [-7e-05, -0.154286, 0.185371, 7, 12],
    "gelu_python": [-0.000127, -0.154269, 0.185373, 7, 12],
    "gelu_python_tanh": [-7e-05, -0.154286, 0.185371, 7, 12],
    "gelu_pytorch_tanh": [-7e-05, -0.154286, 0.185371, 7, 12],
    "hardswish": [0, -0.208333, 0.165, 7, 12],
    "leaky_relu": [-0.04, -0.005, 0.3, 7, 12],
    "linear": [-4, -0.5, 0.3, 7, 12],
    "mish": [-0.072592, -0.220744, 0.208001, 6.999989, 12],
    "quick_gelu": [-0.004415, -0.149612, 0.187484, 6.999953, 12],
    "relu": [0, 0, 0.3, 7, 12],
    "relu2": [0, 0, 0.09, 49, 144],
    "relu6": [0, 0, 0.3, 6, 6],
    "sigmoid": [0.017986, 0.377541, 0.574443, 0.999089, 0.999994],
    "silu": [-0.071945, -0.18877, 0.172333, 6.993623, 11.999926],
    "swish": [-0.071945, -0.18877, 0.172333, 6.993623, 11.999926],
    "tanh": [-0.999329, -0.462117, 0.291313, 0.999998, 1],
}
"""The values of transformers' activation functions at -4, -0.5, 0.3, 7 and 12."""


@pytest.fixture
def model(tmp_path, request):
    name = request.param
    write_checkpoint(tmp_path / "model", CASES[name], SHAPES[name])
    limit = max(LENGTHS) if CASES[name].get("max_position_embeddings") else "unbounded"
    return name, load(tmp_path / "model", max_length=limit)


def packed(vocab):
    """The recorded rows, packed into one row with padding at its end."""
    texts = rows(vocab)
    tokens, positions, segment_ids = np.zeros((3, 1, sum(LENGTHS) + 7), np.int32)
    at, places = 0, []
    for number, text in enumerate(texts, 1):
        here = slice(at, at + len(text))
        tokens[0, here], positions[0, here], segment_ids[0, here] = text, np.arange(len(text)), number
        places += [at + place for place in PICKED if place < len(text)]
        at = here.stop
    return (tokens, positions, segment_ids), places


@pytest.mark.parametrize("model", quick(CASES, FAMILIES + RECURRENT), indirect=True)
def test_logits_match_transformers(model):
    name, model = model
    batch, places = packed(CASES[name]["vocab_size"])
    found = np.asarray(jax.jit(model.apply)(model.params, *map(jnp.asarray, batch)))[0, places]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, LOGITS[name], rtol=0, atol=3e-4)


def test_activations_match_transformers():
    assert sorted(ACTIVATED) == sorted(ACTIVATIONS)
    for name, expected in ACTIVATED.items():
        found = ACTIVATIONS[name](jnp.array([-4, -0.5, 0.3, 7, 12], jnp.float32))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=3e-6, err_msg=name)


def test_every_setting_changes_the_recorded_logits():
    """No two recordings of a family are similar, so none can be mistaken for another."""
    for name in CASES:
        assert np.std(LOGITS[name]) > 5 * UNLIKE, name
        alike = [
            other for other in CASES if other < name and np.abs(LOGITS[other] - LOGITS[name]).max() < UNLIKE
        ]
        assert not alike, (name, alike)


def by_steps(model, batch, places, size=50):
    """Logits at these positions, computed in chunks."""
    batch = [np.pad(each, ((0, 0), (0, -each.shape[1] % size))) for each in batch]
    state, parts, step = model.init_state(model.params, 1), [], jax.jit(model.step)
    for at in range(0, batch[0].shape[1], size):
        chunk = [jnp.asarray(each[:, at : at + size]) for each in batch]
        state, part = step(model.params, state, *chunk)
        parts.append(part[0])
    return np.asarray(model.head(model.params, jnp.concatenate(parts)[np.asarray(places)]))


def tree(model, vocab, shared=65, other=40):
    """Logits of the longest row as one of two paths from a shared prefix, with the other in between."""
    text = rows(vocab)[0]
    tokens = np.concatenate([text[:shared], np.full(other, 7, np.int32), text[shared:]])[None]
    depths = [np.arange(shared), shared + np.arange(other), np.arange(shared, len(text))]
    positions = np.concatenate(depths).astype(np.int32)[None]
    reach = np.full(tokens.shape, tokens.shape[1], np.int32)
    reach[:, shared : shared + other] = shared + other
    batch = map(jnp.asarray, (tokens, positions, np.ones_like(tokens), reach))
    found = np.asarray(jax.jit(model.apply)(model.params, *batch))[0]
    return found[[place + other * (place >= shared) for place in PICKED]]


def test_every_model_type_is_tested():
    tried = [CASES[name]["model_type"] for name in FAMILIES + RECURRENT]
    assert sorted(tried) == sorted(loading.FAMILIES)
    assert set(ROUNDING) == {*FAMILIES, *RECURRENT} - {"xlstm, fused, biases"}


@pytest.mark.parametrize("model", quick(FAMILIES + RECURRENT, KINDS), indirect=True)
def test_steps_give_the_same_logits(model):
    name, model = model
    found = by_steps(model, *packed(CASES[name]["vocab_size"]))
    np.testing.assert_allclose(found, LOGITS[name], rtol=0, atol=3e-4)


@pytest.mark.parametrize("model", quick(FAMILIES, KINDS), indirect=True)
def test_trees_give_the_same_logits(model):
    name, model = model
    found = tree(model, CASES[name]["vocab_size"])
    np.testing.assert_allclose(found, LOGITS[name][: len(PICKED)], rtol=0, atol=3e-4)


@pytest.mark.parametrize("name", quick(ROUNDING, ["llama, biases", "mixtral, window", "mamba"]))
def test_bfloat16_is_as_close_as_in_transformers(tmp_path, name):
    """Logits differ from those in float32 as much as in torch.

    The two round at different points, so a recurrent model's error can be twice that of torch.
    """
    write_checkpoint(tmp_path / "model", CASES[name], SHAPES[name])
    model = load(tmp_path / "model", max_length=max(LENGTHS), dtype="bfloat16")
    batch, places = packed(CASES[name]["vocab_size"])
    found = np.asarray(jax.jit(model.apply)(model.params, *map(jnp.asarray, batch)))[0, places]
    error = np.sqrt(np.mean((found - LOGITS[name]) ** 2))
    assert 0 < error < (2 if name in RECURRENT else 1.2) * ROUNDING[name]


def fused(tensors):
    """Each layer's experts in two tensors, as transformers 5 saves with ``save_original_format=False``."""
    found, by_layer = {}, {}
    for name, tensor in tensors.items():
        expert = re.fullmatch(r"(.*)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight", name)
        if expert is None:
            found[name.replace(".block_sparse_moe.", ".mlp.")] = tensor
        else:
            by_layer.setdefault(expert[1], {})[expert[3], int(expert[2])] = tensor
    for layer, matrices in by_layer.items():
        count = 1 + max(number for _, number in matrices)
        gate, up, down = (
            np.stack(
                [next(matrices[name, at] for name in names if (name, at) in matrices) for at in range(count)]
            )
            for names in (("w1", "gate_proj"), ("w3", "up_proj"), ("w2", "down_proj"))
        )
        found[f"{layer}.mlp.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        found[f"{layer}.mlp.experts.down_proj"] = down
    return found


@pytest.mark.parametrize("model", ["mixtral", "qwen3_moe, some layers dense"], indirect=True)
def test_experts_in_one_tensor(model, tmp_path):
    _, model = model
    (tmp_path / "fused").mkdir()
    (tmp_path / "fused" / "config.json").write_bytes((tmp_path / "model" / "config.json").read_bytes())
    tensors = fused(load_file(tmp_path / "model" / "model.safetensors"))
    save_file(tensors, tmp_path / "fused" / "model.safetensors")
    same = load(tmp_path / "fused", max_length=max(LENGTHS))
    jax.tree.map(np.testing.assert_array_equal, same.params, model.params)
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    split = load(tmp_path / "fused", max_length=max(LENGTHS), mesh=mesh)
    jax.tree.map(np.testing.assert_array_equal, split.params, model.params)


@pytest.mark.parametrize("model", ["mixtral", "qwen3_moe, some layers dense"], indirect=True)
def test_experts_over_a_mesh_axis(model, tmp_path):
    name, _ = model
    count = CASES[name].get("num_experts") or CASES[name]["num_local_experts"]
    mesh = jax.make_mesh((2, 4)[:: 1 if count % 4 == 0 else -1], ("data", "tensor"))
    model = load(tmp_path / "model", max_length=max(LENGTHS), mesh=mesh)
    weights = model.params.get("apart", model.params["layers"])
    divided = [weights[part] for part in ("gate", "up", "down")]
    assert {leaf.sharding.spec for leaf in divided} == {PartitionSpec(None, "tensor")}
    batch, places = packed(CASES[name]["vocab_size"])
    found = np.asarray(jax.jit(model.apply)(model.params, *map(jnp.asarray, batch)))[0, places]
    np.testing.assert_allclose(found, LOGITS[name], rtol=0, atol=3e-4)


@pytest.mark.parametrize("sizes", [[5, 0, 20, 1], [0, 0, 0, 26], [7, 7, 6, 6], [26, 0, 0, 0]])
def test_blocks_of_experts_match_their_runs(sizes):
    rng = np.random.default_rng(0)
    shapes = ((26, 6), (4, 10, 6), (4, 10, 6), (4, 6, 10))
    x, gate, up, down = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    parts = (jax.nn.silu, x, gate, up, down, jnp.asarray(sizes, jnp.int32))
    owner = np.repeat(np.arange(4), sizes)
    silu = np.asarray(jax.nn.silu(jnp.einsum("pw,piw->pi", x, gate[owner])))
    expected = np.einsum("pi,pwi->pw", silu * np.einsum("pw,piw->pi", x, up[owner]), down[owner])
    np.testing.assert_allclose(experts.by_runs(*parts), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(experts.by_blocks(*parts), expected, rtol=0, atol=1e-4)
