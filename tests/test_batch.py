"""A batch is one tree of arrays, and equal if they are."""

import copy
import dataclasses
import pickle

import jax
import numpy as np
import pytest

from trees import pytree_diff
from windrow.batch import HostBatch, LLMIndexedBatch, join_rows

NAMES = [
    "inputs",
    "targets",
    "inputs_position",
    "targets_position",
    "inputs_segmentation",
    "targets_segmentation",
    "document_idx",
    "sequence_idx",
    "_document_borders",
]


@pytest.fixture
def batch():
    return LLMIndexedBatch(*[np.full((1, 2), number, np.int32) for number in range(9)])


def test_its_parts_have_names(batch):
    assert list(vars(batch)) == NAMES
    assert batch._document_borders.tolist() == [[8, 8]]
    assert pytree_diff(LLMIndexedBatch(**vars(batch)), batch) is None
    assert repr(batch).startswith("LLMIndexedBatch(inputs=int32[1, 2], targets=int32[1, 2], ")
    assert LLMIndexedBatch(*list(vars(batch).values())[:8])._document_borders is None
    with pytest.raises(TypeError, match="sequence_idx"):
        LLMIndexedBatch(*list(vars(batch).values())[:7])
    backwards = {name: vars(batch)[name] for name in reversed(NAMES)}
    assert LLMIndexedBatch(**backwards) == batch
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.inputs = None


def test_it_is_a_tree(batch):
    doubled = jax.tree.map(lambda part: 2 * part, batch)
    assert isinstance(doubled, LLMIndexedBatch)
    assert doubled.targets.tolist() == [[2, 2]]
    assert jax.jit(lambda batch: batch.inputs + batch.targets)(batch).tolist() == [[1, 1]]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(batch)[0]]
    assert paths == [f".{name}" for name in NAMES]
    assert repr(jax.tree.map(lambda part: None, batch)).startswith("LLMIndexedBatch(inputs=None")


def test_it_is_copied_and_pickled(batch):
    for other in (pickle.loads(pickle.dumps(batch)), copy.copy(batch), copy.deepcopy(batch)):
        assert pytree_diff(other, batch) is None


@pytest.mark.parametrize("put", [np.asarray, jax.numpy.asarray])
def test_equal_batches(batch, put):
    one = jax.tree.map(put, batch)
    assert one == jax.tree.map(put, batch)
    np.testing.assert_equal([one], [jax.tree.map(put, batch)])
    other_value = dataclasses.replace(one, inputs=put(np.full((1, 2), 5, np.int32)))
    other_dtype = dataclasses.replace(one, inputs=put(np.zeros((1, 2), np.int8)))
    other_shape = dataclasses.replace(one, inputs=put(np.zeros((2, 2), np.int32)))
    for other in (other_value, other_dtype, other_shape, None, HostBatch(*range(7))):
        assert one != other
        with pytest.raises(AssertionError):
            np.testing.assert_equal([one], [other])


def test_rows_are_joined(batch):
    joined = join_rows([batch, batch])
    assert joined.targets.tolist() == [[1, 1], [1, 1]]
