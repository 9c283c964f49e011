"""A batch is a pytree of arrays; batches with equal arrays are equal."""

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


def test_fields_have_names(batch):
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


def test_batch_is_a_pytree(batch):
    doubled = jax.tree.map(lambda part: 2 * part, batch)
    assert isinstance(doubled, LLMIndexedBatch)
    assert doubled.targets.tolist() == [[2, 2]]
    assert jax.jit(lambda batch: batch.inputs + batch.targets)(batch).tolist() == [[1, 1]]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(batch)[0]]
    assert paths == [f".{name}" for name in NAMES]
    assert repr(jax.tree.map(lambda part: None, batch)).startswith("LLMIndexedBatch(inputs=None")


def test_copy_and_pickle(batch):
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


def test_join_rows(batch):
    joined = join_rows([batch, batch])
    assert joined.targets.tolist() == [[1, 1], [1, 1]]


@pytest.fixture
def numbered():
    """Three rows of four tokens; all fields differ."""
    tokens = np.arange(12, dtype=np.int32).reshape(3, 4)
    segments = np.array([[1, 1, 1, 1], [1, 1, 2, 2], [1, 0, 0, 0]], np.int32)
    return LLMIndexedBatch(
        inputs=tokens,
        targets=tokens + 100,
        inputs_position=tokens + 200,
        targets_position=tokens + 300,
        inputs_segmentation=segments,
        targets_segmentation=segments * 0,
        document_idx=np.array([7, 8, 9], np.int32),
        sequence_idx=np.array([0, 1, 2], np.int32),
    )


BORDERS = [[True, False, False, False], [True, False, True, False], [True, True, False, False]]
TOKEN_FIELDS = [name for name in NAMES if not name.endswith("_idx")]
KINDS = {"numpy": np.asarray, "jax": jax.numpy.asarray}


class TestIndexing:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("key", "token_key", "row_key"),
        [
            (np.s_[:, 1:3], np.s_[:, 1:3], np.s_[:]),
            (np.s_[1], np.s_[1], np.s_[1]),
            (np.s_[-1], np.s_[-1], np.s_[-1]),
            (np.s_[1:], np.s_[1:], np.s_[1:]),
            (np.s_[::2, ::-1], np.s_[::2, ::-1], np.s_[::2]),
            (np.s_[2, 3], np.s_[2, 3], np.s_[2]),
            (np.s_[..., 2:], np.s_[:, 2:], np.s_[:]),
            (np.s_[...], np.s_[:], np.s_[:]),
            (np.s_[:2, ..., 0], np.s_[:2, 0], np.s_[:2]),
            (np.s_[()], np.s_[:], np.s_[:]),
            (np.array([2, 0]), np.array([2, 0]), np.array([2, 0])),
            (np.array([True, False, True]), np.array([0, 2]), np.array([0, 2])),
            ((np.array([2, 0]), np.array([1, 1])), (np.array([2, 0]), np.array([1, 1])), np.array([2, 0])),
            (np.s_[None], np.s_[None], np.s_[None]),
            (np.s_[1:, None], np.s_[1:, None], np.s_[1:, None]),
        ],
        ids=str,
    )
    def test_each_field_is_indexed_by_the_leading_dimensions_of_the_key(
        self, numbered, kind, key, token_key, row_key
    ):
        part = jax.tree.map(KINDS[kind], numbered)[key]
        whole = {**vars(numbered), "_document_borders": np.array(BORDERS)}
        for name in NAMES:
            expected = whole[name][token_key if name in TOKEN_FIELDS else row_key]
            made = getattr(part, name)
            assert isinstance(made, jax.Array) == (kind == "jax")
            assert np.array_equal(made, expected), name
            assert made.dtype == expected.dtype

    def test_one_row_is_indexed_by_position(self, numbered):
        assert numbered[1][2:] == numbered[1, 2:]
        assert numbered[1][2:].document_idx == 8
        assert numbered[1].get_document_borders().tolist() == BORDERS[1]

    def test_stacked_batches(self, numbered):
        stacked = jax.tree.map(lambda *parts: np.stack(parts), numbered[:], numbered[::-1])
        assert stacked[1] == numbered[::-1]
        assert stacked[:, 2].document_idx.tolist() == [9, 7]
        assert stacked[..., 1:3].inputs.shape == (2, 3, 2)
        assert stacked[..., 1:3].document_idx.tolist() == [[7, 8, 9], [9, 8, 7]]

    def test_slicing_keeps_the_borders_of_the_whole_rows(self, numbered):
        assert numbered[:, 1:3].get_document_borders().tolist() == [[False] * 2, [False, True], [True, False]]
        assert numbered[:, 1:][:, 1:]._document_borders.tolist() == [row[2:] for row in BORDERS]
        own = numbered.replace(_document_borders=np.ones((3, 4), np.bool_))
        assert own[:, 1:3]._document_borders.tolist() == [[True] * 2] * 3
        assert numbered._document_borders is None

    def test_inside_jit(self, numbered):
        part = jax.jit(lambda batch, row: batch[row, 1:3])(numbered, 1)
        assert jax.tree.map(np.asarray, part) == numbered[1:2, 1:3][0]

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (np.s_[0, 1, 2], "key indexes 3 dimensions; the batch has 2"),
            (np.s_[..., 0, 1, 2], "key indexes 3 dimensions"),
            (np.ones((3, 4), np.bool_), "key is a mask of single tokens"),
            (5, "index 5 is out of bounds"),
            (np.s_[..., ...], "ellipsis"),
        ],
        ids=str,
    )
    def test_bad_keys(self, numbered, key, message):
        with pytest.raises(IndexError, match=message):
            numbered[key]


@pytest.mark.parametrize("put", KINDS.values(), ids=KINDS)
class TestDocumentBorders:
    def test_borders_where_segments_change_and_in_the_first_column(self, numbered, put):
        borders = jax.tree.map(put, numbered).get_document_borders()
        assert (borders.dtype, np.asarray(borders).tolist()) == (np.bool_, BORDERS)

    def test_given_borders_are_kept(self, numbered, put):
        given = put(np.zeros((3, 4), np.bool_))
        assert numbered.replace(_document_borders=given).get_document_borders() is given

    @pytest.mark.parametrize("shape", [(0, 4), (3, 0), (3, 1)])
    def test_one_column_or_none(self, put, shape):
        empty = LLMIndexedBatch.from_inputs(put(np.zeros(shape, np.int32)), *[put(np.zeros(shape[0]))] * 2)
        assert np.array_equal(empty.get_document_borders(), np.ones(shape, np.bool_))


class TestFromInputs:
    @pytest.mark.parametrize("kind", KINDS)
    def test_targets_default_to_the_inputs(self, kind):
        tokens = np.array([[5, 6, 7], [8, 9, 4]], np.int32)
        batch = LLMIndexedBatch.from_inputs(
            KINDS[kind](tokens), KINDS[kind](np.int32([3, 4])), KINDS[kind](np.int32([0, 1]))
        )
        assert all(isinstance(part, jax.Array) == (kind == "jax") for part in jax.tree.leaves(batch))
        expected = LLMIndexedBatch(
            inputs=np.array([[0, 5, 6], [0, 8, 9]], np.int32),
            targets=tokens,
            inputs_position=np.array([[0, 1, 2]] * 2, np.int32),
            targets_position=np.array([[0, 1, 2]] * 2, np.int32),
            inputs_segmentation=np.ones((2, 3), np.int32),
            targets_segmentation=np.ones((2, 3), np.int32),
            document_idx=np.array([3, 4], np.int32),
            sequence_idx=np.array([0, 1], np.int32),
        )
        assert pytree_diff(jax.tree.map(np.asarray, batch), expected) is None

    def test_targets_do_not_change_the_inputs(self):
        tokens = np.array([[5, 6, 7]], np.int32)
        numbers = np.array([1], np.int32)
        batch = LLMIndexedBatch.from_inputs(
            inputs=tokens, targets=tokens + 1, sequence_idx=numbers - 1, document_idx=numbers
        )
        assert batch.inputs.tolist() == [[5, 6, 7]]
        assert batch.targets.tolist() == [[6, 7, 8]]
        assert (batch.document_idx.tolist(), batch.sequence_idx.tolist()) == ([1], [0])
        assert batch.get_document_borders().tolist() == [[True, False, False]]

    def test_inside_jit_and_donated(self):
        tokens, numbers = np.ones((2, 3), np.int32), np.ones(2, np.int32)
        batch = jax.jit(LLMIndexedBatch.from_inputs)(tokens, numbers, numbers)
        assert batch == jax.tree.map(jax.numpy.asarray, LLMIndexedBatch.from_inputs(tokens, numbers, numbers))
        donated = jax.jit(lambda batch: jax.tree.map(lambda part: part + 1, batch), donate_argnums=0)(batch)
        assert donated.inputs.tolist() == [[1, 2, 2]] * 2

    @pytest.mark.parametrize(
        ("inputs", "document_idx", "sequence_idx", "targets", "message"),
        [
            (
                (2, 3),
                (2,),
                (2,),
                (2, 4),
                r"targets has shape \(2, 4\); for these inputs it must be \(2, 3\)",
            ),
            ((2, 3), (3,), (2,), None, r"document_idx has shape \(3,\); .* must be \(2,\)"),
            ((2, 3), (2,), (), (2, 3), r"sequence_idx has shape \(\); .* must be \(2,\)"),
        ],
    )
    def test_mismatched_shapes_are_refused(self, inputs, document_idx, sequence_idx, targets, message):
        parts = [np.zeros(shape, np.int32) for shape in (inputs, document_idx, sequence_idx)]
        with pytest.raises(ValueError, match=message):
            LLMIndexedBatch.from_inputs(*parts, None if targets is None else np.zeros(targets, np.int32))


def test_dtypes_and_a_sample_of_zeros():
    struct = LLMIndexedBatch.get_dtype_struct(batch_size=4, max_length=16)
    sample = LLMIndexedBatch.get_sample(batch_size=4, max_length=16)
    for name in NAMES[:-1]:
        shape = (4,) if name.endswith("_idx") else (4, 16)
        assert getattr(struct, name) == jax.ShapeDtypeStruct(shape, np.int32)
        part = getattr(sample, name)
        assert isinstance(part, jax.Array)
        assert (part.shape, part.dtype, bool(part.any())) == (shape, np.int32, False)
    assert struct._document_borders is None
    assert sample._document_borders is None
    lowered = jax.jit(lambda batch: batch.get_document_borders()).lower(struct)
    assert lowered.compile()(sample).shape == (4, 16)
    assert jax.eval_shape(lambda batch: batch[:, :8], struct).targets.shape == (4, 8)


def test_replace_some_fields(numbered):
    other = numbered.replace(document_idx=np.zeros(3, np.int32))
    assert other.document_idx.tolist() == [0, 0, 0]
    assert other.inputs is numbered.inputs
    assert numbered.document_idx.tolist() == [7, 8, 9]
    with pytest.raises(TypeError, match="documents"):
        numbered.replace(documents=1)
