"""The three levels of the model contract agree for all chunks, packings, paddings and devices."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from exhaustive import exhaustive
from reference_models import GPT2, MAMBA, MISTRAL, logits, random_tensors, write
from windrow.models import attention, load
from windrow.models.sight import Sight

MODELS = {
    "mistral": MISTRAL,
    "gpt2": GPT2,
    "mamba": MAMBA,
}
# Three rows of 40 tokens: one full, one with three packed segments, one short and padded.
SEGMENTS = [[40], [17, 2, 21], [11]]
LENGTH = 40
CLOSE = {"rtol": 0, "atol": 1e-4}


def inputs():
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 61, (3, LENGTH), np.int32)
    positions, segment_ids = np.zeros((2, 3, LENGTH), np.int32)
    for row, lengths in enumerate(SEGMENTS):
        at = 0
        for number, length in enumerate(lengths, 1):
            positions[row, at : at + length] = np.arange(length)
            segment_ids[row, at : at + length] = number
            at += length
    return tokens, positions, segment_ids


def pieces():
    """The row and columns of each segment."""
    for row, lengths in enumerate(SEGMENTS):
        ends = np.cumsum(lengths)
        for length, end in zip(lengths, ends, strict=True):
            yield row, slice(end - length, end)


class Prepared:
    """A model, its compiled functions, and the reference's logits for every real token."""

    def __init__(self, directory, config):
        self.config, self.tensors = config, random_tensors(config)
        self.directory = write(directory, config, self.tensors)
        self.model = load(self.directory)
        self.apply, self.step = jax.jit(self.model.apply), jax.jit(self.model.step)
        self.head = jax.jit(self.model.head)
        tokens, _, segment_ids = inputs()
        self.real = segment_ids > 0
        self.expected = np.zeros((*tokens.shape, 61))
        for row, columns in pieces():
            self.expected[row, columns] = logits(config, self.tensors, tokens[row, columns])

    def stepped(self, chunks):
        """Logits from steps through ``(tokens, positions, segment_ids)``, and the last state."""
        state, parts = self.model.init_state(self.model.params, 3), []
        for chunk in chunks:
            state, picked = self.step(self.model.params, state, *chunk)
            parts.append(np.asarray(self.head(self.model.params, picked)))
        return parts, state


@pytest.fixture(
    scope="module",
    params=["mistral", exhaustive("mistral in blocks"), "mamba", exhaustive("gpt2")],
)
def prepared(request, tmp_path_factory):
    name, *blocks = request.param.split(" in ")
    with pytest.MonkeyPatch.context() as patch:
        if blocks:
            patch.setattr(attention, "_BLOCK", 4)
            patch.setattr(attention, "_LONG", 4)
            assert attention._block_size(13, attention._BLOCK, attention._MOST_BLOCKS) == 8
        yield Prepared(tmp_path_factory.mktemp(name) / name, MODELS[name])


def test_packed_and_padded_rows(prepared):
    result = np.asarray(prepared.apply(prepared.model.params, *inputs()))
    np.testing.assert_allclose(result[prepared.real], prepared.expected[prepared.real], **CLOSE)
    assert np.isfinite(result).all()


def test_hidden_and_head_match_apply(prepared):
    model = prepared.model
    picked = np.asarray(jax.jit(model.hidden)(model.params, *inputs()))[prepared.real]
    result = prepared.head(model.params, picked)
    np.testing.assert_allclose(result, prepared.expected[prepared.real], **CLOSE)


@pytest.mark.parametrize("size", [1, 13, 40])
def test_chunks_of_any_size(prepared, size):
    starts = range(0, LENGTH, size)
    padding = -LENGTH % size
    padded = [np.pad(each, ((0, 0), (0, padding))) for each in inputs()]
    parts, _ = prepared.stepped([each[:, at : at + size] for each in padded] for at in starts)
    result = np.concatenate(parts, axis=1)[:, :LENGTH]
    np.testing.assert_allclose(result[prepared.real], prepared.expected[prepared.real], **CLOSE)


def test_rows_at_different_positions_and_gaps_in_chunks(prepared):
    """Each chunk has the next few tokens of each row at random places among padding."""
    rng, whole = np.random.default_rng(5), inputs()
    next_token, chunks, places = [0, 0, 0], [], []
    while min(next_token) < LENGTH:
        chunk = np.zeros((3, 3, 6), np.int32)
        for row in range(3):
            take = min(rng.integers(0, 7), LENGTH - next_token[row])
            for column in sorted(rng.choice(6, take, replace=False)):
                if prepared.real[row, next_token[row]]:
                    chunk[:, row, column] = [each[row, next_token[row]] for each in whole]
                    places.append((len(chunks), row, column, next_token[row]))
                next_token[row] += 1
        chunks.append(chunk)
    parts, _ = prepared.stepped(chunks)
    result = np.array([parts[chunk][row, column] for chunk, row, column, _ in places])
    expected = np.array([prepared.expected[row, token] for _, row, _, token in places])
    assert len(places) == prepared.real.sum()
    np.testing.assert_allclose(result, expected, **CLOSE)


def test_padding_does_not_change_the_state(prepared):
    _, before = prepared.stepped([[each[:, :13] for each in inputs()]])
    tokens, positions = np.random.default_rng(0).integers(0, 61, (2, 3, 13), np.int32)
    after, _ = prepared.step(prepared.model.params, before, tokens, positions, np.zeros((3, 13), np.int32))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_position_0_resets_a_row(prepared):
    """As in continuous batching, the row's earlier contents are forgotten when a new text starts."""
    model, state = prepared.model, prepared.model.init_state(prepared.model.params, 3)
    tokens, positions, segment_ids = inputs()
    dirty, _ = prepared.step(model.params, state, tokens[:, ::-1], positions, segment_ids)
    again = [each[:, :13] for each in inputs()]
    _, picked = prepared.step(model.params, dirty, *again)
    result, real = np.asarray(prepared.head(model.params, picked)), prepared.real[:, :13]
    np.testing.assert_allclose(result[real], prepared.expected[:, :13][real], **CLOSE)


def test_a_mesh_of_data_and_tensor(prepared):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    model = load(prepared.directory, mesh=mesh)
    by_row = NamedSharding(Mesh(mesh.devices, mesh.axis_names), PartitionSpec("data"))
    batch = [jax.device_put(np.pad(each, ((0, 1), (0, 0))), by_row) for each in inputs()]
    result = np.asarray(jax.jit(model.apply)(model.params, *batch))[:3]
    np.testing.assert_allclose(result[prepared.real], prepared.expected[prepared.real], **CLOSE)
    state = jax.jit(model.init_state, static_argnums=1)(model.params, 4)
    _, picked = jax.jit(model.step)(model.params, state, *batch)
    result = np.asarray(jax.jit(model.head)(model.params, picked))[:3]
    np.testing.assert_allclose(result[prepared.real], prepared.expected[prepared.real], **CLOSE)


def test_bfloat16_is_close(prepared):
    model = load(prepared.directory, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.params)} == {"bfloat16"}
    result = np.asarray(jax.jit(model.apply)(model.params, *inputs()))
    gap = np.abs(result - prepared.expected)[prepared.real]
    assert result.dtype == np.float32
    assert 1e-4 < gap.mean() < 0.05 * prepared.expected[prepared.real].std()


def test_program_size_does_not_grow_with_depth(prepared, tmp_path):
    field = "n_layer" if "n_layer" in prepared.config else "num_hidden_layers"
    models = []
    for depth in (10, 30):  # numbers of equal width, because programs are compared as text
        config = prepared.config | {field: depth}
        models.append(load(write(tmp_path / str(depth), config, random_tensors(config))))
    for name in ("apply", "step"):
        sizes = []
        for model in models:
            state = [model.init_state(model.params, 3)] if name == "step" else []
            program = jax.make_jaxpr(getattr(model, name))(model.params, *state, *inputs())
            sizes.append(str(program).count("\n"))
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("window", [None, 100])
def test_long_rows_are_attended_in_blocks(window):
    rng = np.random.default_rng(0)
    length = 1124
    assert attention._block_size(length, attention._BLOCK, attention._MOST_BLOCKS) < length
    q, k, v = (rng.standard_normal((1, heads, length, 4)).astype(np.float32) for heads in (2, 1, 1))
    positions = np.concatenate([np.arange(700), np.arange(length - 700)])[None].astype(np.int32)
    segment_ids = np.repeat([1, 2], [700, length - 700])[None].astype(np.int32)

    @jax.jit
    def attended(q, k, v):
        sight = Sight(positions, segment_ids)
        return attention.attend(q, k, v, sight, scale=0.5, window=window)

    result = np.asarray(attended(q, k, v))
    for t in (0, 1, 511, 512, 699, 700, 801, 1023, 1024, length - 1):
        first = 0 if t < 700 else 700
        first = max(first, t - window + 1) if window else first
        scores = np.exp(k[0, 0, first : t + 1] @ q[0, :, t].T * 0.5)
        np.testing.assert_allclose(
            result[0, :, t], (scores / scores.sum(0)).T @ v[0, 0, first : t + 1], rtol=0, atol=1e-5
        )
