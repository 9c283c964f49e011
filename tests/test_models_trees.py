"""In tree rows, the logits at every token equal those of its path alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exhaustive import exhaustive
from reference_models import GPT2, LLAMA, MISTRAL, random_tensors, write
from windrow import LanguageModel, visible
from windrow.models import attention, load
from windrow.models.sight import Sight

QWEN = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True}
MODELS = {
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": LLAMA | QWEN | {"sliding_window": 5, "max_window_layers": 1},
    "gpt2": GPT2,
}
LENGTH = 140


class Row:
    """A row of random trees, three levels deep, and the positions in the row of the path to each leaf."""

    def __init__(self, rng, trees):
        self.tokens, self.positions, self.segment_ids = np.zeros((3, LENGTH), np.int32)
        self.reach = np.arange(1, LENGTH + 1, dtype=np.int32)
        self.paths, self.end, self.rng = [], 0, rng
        for number in range(1, trees + 1):
            self.grow([], 2, number)

    def grow(self, path, depth, number):
        count = int(self.rng.integers(1, 10))
        own = np.arange(self.end, self.end + count)
        self.tokens[own] = self.rng.integers(0, 61, count)
        self.positions[own] = len(path) + np.arange(count)
        self.segment_ids[own] = number
        self.end += count
        for _ in range(self.rng.integers(1, 4) if depth else 0):
            self.grow([*path, *own], depth - 1, number)
        self.reach[own] = self.end
        if not depth:
            self.paths.append([*path, *own])


def rows():
    rng = np.random.default_rng(7)
    made = [Row(rng, trees) for trees in (1, 2, 1)]
    assert all(row.end <= LENGTH for row in made)
    return made


def stacked(made, name):
    return np.stack([getattr(row, name) for row in made])


ALONE = [("mistral", 512), ("mistral", 16), ("gpt2", 512)]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        each if each in ALONE else exhaustive(*each)
        for each in ((name, block) for name in MODELS for block in (512, 16))
    ],
)
def test_each_path_matches_its_own_row(name, block, tmp_path, monkeypatch):
    """With the whole row, and in blocks of 16 tokens."""
    model = load(write(tmp_path / name, MODELS[name], random_tensors(MODELS[name])))
    monkeypatch.setattr(attention, "_BLOCK", block)
    monkeypatch.setattr(attention, "_LONG", block)
    made = rows()
    assert model.takes_reach
    batch = [stacked(made, name) for name in ("tokens", "positions", "segment_ids", "reach")]
    together = np.asarray(jax.jit(model.apply)(model.params, *batch))
    assert np.isfinite(together).all()
    alone = jax.jit(model.apply)
    longest = max(len(path) for row in made for path in row.paths)
    for number, row in enumerate(made):
        tokens, positions, segment_ids = np.zeros((3, len(row.paths), longest), np.int32)
        for at, path in enumerate(row.paths):
            tokens[at, : len(path)] = row.tokens[path]
            positions[at, : len(path)] = np.arange(len(path))
            segment_ids[at, : len(path)] = 1
        expected = np.asarray(alone(model.params, tokens, positions, segment_ids))
        for at, path in enumerate(row.paths):
            np.testing.assert_allclose(together[number, path], expected[at, : len(path)], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["trees", "packed"])
def test_invisible_blocks_are_not_read(kind, monkeypatch):
    """A masked NaN would still affect a sum; a skipped one does not."""
    monkeypatch.setattr(attention, "_BLOCK", 16)
    monkeypatch.setattr(attention, "_LONG", 16)
    length = 96
    at = np.arange(length, dtype=np.int32)[None]
    if kind == "trees":
        sight = Sight(at, np.ones_like(at), np.where(at < 16, 32, length).astype(np.int32))
    else:
        sight = Sight(np.where(at < 30, at, at - 30), np.where(at < 30, 1, 2).astype(np.int32))
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 2, length, 4)).astype(np.float32)
    v[:, :, :16] = np.nan
    mixed = np.asarray(jax.jit(lambda *qkv: attention.attend(*qkv, sight, scale=0.5))(q, k, v))
    assert np.isnan(mixed[:, :, :32]).all()
    assert np.isfinite(mixed[:, :, 32:]).all()


def test_blocks_can_be_differentiated(monkeypatch):
    made = rows()
    tokens, positions, segment_ids, reach = (
        stacked(made, name) for name in ("tokens", "positions", "segment_ids", "reach")
    )
    sight = Sight(positions, segment_ids, reach)
    q, k, v = (
        np.random.default_rng(0).standard_normal((3, *tokens.shape, 2, 4)).astype(np.float32).swapaxes(2, 3)
    )

    def gradients():
        def total(*qkv):
            return jnp.where(
                (segment_ids > 0)[:, None, :, None], attention.attend(*qkv, sight, scale=0.5) ** 2, 0
            ).sum()

        return jax.jit(jax.grad(total, argnums=(0, 1, 2)))(q, k, v)

    whole = gradients()
    monkeypatch.setattr(attention, "_BLOCK", 16)
    monkeypatch.setattr(attention, "_LONG", 16)
    for one, other in zip(whole, gradients(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def test_visible_tokens_are_the_path():
    made = rows()
    mask = np.asarray(visible(stacked(made, "segment_ids"), stacked(made, "reach")))
    for number, row in enumerate(made):
        for path in row.paths:
            for depth, place in enumerate(path):
                assert np.flatnonzero(mask[number, place]).tolist() == path[: depth + 1]
        for padding in range(row.end, LENGTH):
            assert np.flatnonzero(mask[number, padding]).tolist() == [padding]


def test_visible_tokens_without_reach_are_the_segment():
    mask = np.asarray(visible(jnp.array([[1, 1, 2, 0, 0]])))[0].astype(int)
    np.testing.assert_array_equal(
        mask, [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    )


def test_functions_with_reach():
    def plain(params, tokens, positions, segment_ids):
        return params[tokens]

    def masked(params, tokens, positions, segment_ids, reach=None):
        return params[tokens]

    def head(params, picked):
        return picked

    assert not LanguageModel(None, plain).takes_reach
    assert LanguageModel(None, masked).takes_reach
    assert LanguageModel(None, jax.jit(masked)).takes_reach
    assert not LanguageModel(None, masked, hidden=plain, head=head).takes_reach
    assert LanguageModel(None, plain, hidden=masked, head=head).takes_reach
