"""An evaluation loop over the pipeline, as users write it, compared with plain NumPy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

from exhaustive import quick
from small_tokenizer import BOS, write_tokenizer
from windrow.batch import join_rows
from windrow.lmeval_pipeline import (
    CompleteLLMIndexedBatch,
    LLMIndexedBatch,
    MultiHostDataLoadIterator,
    PadBatchDataset,
    PadSequenceInBatchDataset,
    SortedDataset,
    _pad_batch_multiple,
    empty_llm_indexed_sample,
    lmeval_preprocessing_pipeline,
    token_length,
)

VOCABULARY = 258
PIECE = 4
"""The number of columns that the loop processes at a time."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def table():
    """A bigram model: the logits that follow each token."""
    return np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32)


TEXTS = [("a" * (number % 9), "bcd"[: 1 + number % 3] * (1 + number % 5)) for number in range(45)]

REQUESTS = [
    Instance(request_type="loglikelihood", doc={}, arguments=texts, idx=number)
    for number, texts in enumerate(TEXTS)
]


def alone(table):
    """Each request's log-likelihood and greedy flag, computed separately in NumPy and float64."""
    logits = table.astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    totals, greedy = [], []
    for prefix, text in TEXTS:
        tokens = [BOS, *prefix.encode(), *text.encode()]
        pairs = list(pairwise(tokens))[len(prefix) :]
        totals.append(sum(logs[before, after] for before, after in pairs))
        greedy.append(all(logits[before].argmax() == after for before, after in pairs))
    return np.array(totals), np.array(greedy)


def scores(table, batch):
    """Per row of a piece: the log-likelihood of the scored targets, and how many targets are not greedy."""
    logits = jnp.asarray(table)[batch.inputs]
    logs = jax.nn.log_softmax(logits)
    at_target = jnp.take_along_axis(logs, batch.targets[..., None], axis=-1)[..., 0]
    is_scored = (batch.targets_segmentation > 0) & (batch.inputs_segmentation > 0)
    missed = (logits.argmax(-1) != batch.targets) & is_scored
    return jnp.where(is_scored, at_target, 0).sum(-1), missed.sum(-1)


def evaluated(loader, table, count, score):
    """Runs the loop by batches and by pieces along the length; returns sums by document."""
    totals, missed = np.zeros(count + 1), np.zeros(count + 1, np.int64)
    for batch in loader:
        for start in range(0, batch.inputs.shape[1], PIECE):
            piece = batch[:, start : start + PIECE]
            assert piece.inputs.shape == (len(batch.document_idx), PIECE)
            row_totals, row_missed = score(table, piece)
            documents = np.asarray(piece.document_idx)
            np.add.at(totals, documents, np.asarray(row_totals))
            np.add.at(missed, documents, np.asarray(row_missed))
    assert (totals[0], missed[0]) == (0, 0)  # padding
    return totals[1:], missed[1:] == 0


MESHES = {
    "eight devices": lambda: jax.make_mesh((8,), ("data",)),
    "automatic axes": lambda: jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2),
    "explicit axes": lambda: jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Explicit,) * 2),
}


@pytest.mark.parametrize("kind", quick(MESHES, ["eight devices", "explicit axes"]))
def test_loop_matches_each_request_alone(tokenizer, table, kind):
    loader = lmeval_preprocessing_pipeline(
        0, 1, MESHES[kind](), REQUESTS, 8, tokenizer, worker_count=0, padding_multiple=PIECE
    )
    assert (len(loader), loader.dataset_size) == (6, 45)
    totals, greedy = evaluated(loader, table, len(TEXTS), jax.jit(scores))
    expected_totals, expected_greedy = alone(table)
    np.testing.assert_allclose(totals, expected_totals, rtol=1e-5)
    np.testing.assert_array_equal(greedy, expected_greedy)
    again, _ = evaluated(loader, table, len(TEXTS), jax.jit(scores))
    np.testing.assert_array_equal(again, totals)


def test_single_rows_and_micro_batches(tokenizer, table):
    mesh = MESHES["eight devices"]()
    loader = lmeval_preprocessing_pipeline(0, 1, mesh, REQUESTS, 16, tokenizer, worker_count=0)
    expected, _ = alone(table)
    totals = np.zeros(len(TEXTS) + 1)
    for batch in loader:
        for row in (0, 7, -1):
            one = batch[row]
            assert one.inputs.shape == (128,)
            number = int(one.document_idx)
            if number:
                np.testing.assert_allclose(scores(table, one)[0], expected[number - 1], rtol=1e-5)
        for start in range(0, 16, 4):
            part = batch[start : start + 4]
            totals[np.asarray(part.document_idx)] += np.asarray(scores(table, part)[0])
    np.testing.assert_allclose(totals[1:], expected, rtol=1e-5)


def test_batches_can_be_moved_and_split(tokenizer):
    """With ``jax.tree.map``, ``device_put`` and ``jit`` with shardings; joined pieces equal the whole."""
    mesh = MESHES["automatic axes"]()
    loader = lmeval_preprocessing_pipeline(0, 1, mesh, REQUESTS, 8, tokenizer, worker_count=0)
    by_data, replicated = (NamedSharding(mesh, PartitionSpec(axis)) for axis in ("data", None))
    for batch in loader:
        host = jax.tree.map(np.asarray, batch)
        assert all(type(part) is np.ndarray for part in jax.tree.leaves(host))
        moved = jax.device_put(batch, by_data)
        assert all(part.sharding == by_data for part in jax.tree.leaves(moved))
        assert jax.tree.map(np.asarray, moved) == host
        shifted = jax.jit(
            lambda batch: batch.replace(inputs=batch.inputs + 1),
            in_shardings=(by_data,),
            out_shardings=replicated,
        )(moved)
        assert np.array_equal(shifted.inputs, host.inputs + 1)
        assert np.array_equal(shifted.document_idx, host.document_idx)
        assert join_rows([host[:3], host[3:]]) == host
        pieces = [moved[:, start : start + 32] for start in range(0, 128, 32)]
        borders = np.concatenate([piece.get_document_borders() for piece in pieces], axis=1)
        assert np.array_equal(borders, host.get_document_borders())


@pytest.mark.exhaustive
def test_borders_on_a_mesh_match_the_whole_batch(tokenizer):
    """A batch without borders computes them from its segment ids, in pieces as in one."""
    for kind in MESHES:
        loader = lmeval_preprocessing_pipeline(
            0, 1, MESHES[kind](), REQUESTS, 8, tokenizer, worker_count=0, padding_multiple=PIECE
        )
        for batch in loader:
            batch = batch.replace(_document_borders=None)
            segments = np.asarray(batch.inputs_segmentation)
            expected = np.concatenate(
                [segments[:, :1] == segments[:, :1], np.diff(segments, axis=1) != 0], axis=1
            )
            assert np.array_equal(batch.get_document_borders(), expected)
            assert np.array_equal(jax.jit(lambda batch: batch.get_document_borders())(batch), expected)
            assert np.array_equal(batch[2:, 1:]._document_borders, expected[2:, 1:])


def element(number, prefix, text):
    """A request as an element of the reference's datasets."""
    tokens = np.array([[BOS, *prefix.encode(), *text.encode()]], np.int32)
    shape = (1, tokens.shape[1] - 1)
    return CompleteLLMIndexedBatch.map(
        {
            "inputs": tokens[:, :-1],
            "targets": tokens[:, 1:],
            "inputs_segmentation": np.ones(shape, np.int32),
            "targets_segmentation": (np.arange(shape[1])[None] >= len(prefix)).astype(np.int32),
            "idx": np.array(number),
        }
    )


def test_datasets_composed_by_hand(table):
    """Sorted, completed with filler, padded and stacked, with mixed dtypes."""
    import grain

    elements = [element(number, *texts) for number, texts in enumerate(TEXTS)]
    ordered = SortedDataset(grain.MapDataset.source(elements), token_length, reverse=True)
    filled = PadBatchDataset(ordered, 8, 0, empty_llm_indexed_sample())
    padded = PadSequenceInBatchDataset(filled, 8, PIECE)

    def stack(parts):
        return LLMIndexedBatch(
            **{
                name: _pad_batch_multiple([part[name] for part in parts], PIECE)
                for name in reversed(parts[0])
            }
        )

    loader = MultiHostDataLoadIterator(
        padded.batch(8, batch_fn=stack), MESHES["eight devices"](), iterator_length=6, dataset_size=45
    )
    totals, greedy = evaluated(loader, table, len(TEXTS), jax.jit(scores))
    expected_totals, expected_greedy = alone(table)
    np.testing.assert_allclose(totals, expected_totals, rtol=1e-5)
    np.testing.assert_array_equal(greedy, expected_greedy)


def test_loop_pads_the_last_batch(table):
    """45 requests in batches of 8: the last batch has 5 rows, so each field gets 3 more."""
    elements = [element(number, *texts) for number, texts in enumerate(TEXTS)]
    totals = np.zeros(len(TEXTS) + 1)
    for start in range(0, 45, 8):
        parts = elements[start : start + 8]
        batch = LLMIndexedBatch(
            **{
                name: _pad_batch_multiple([part[name] for part in parts], 16, batch_size_pad=8)
                for name in parts[0]
            }
        )
        assert {len(field) for field in vars(batch).values()} == {8}
        np.add.at(totals, batch.document_idx, scores(table, batch)[0])
    assert totals[0] == 0
    np.testing.assert_allclose(totals[1:], alone(table)[0], rtol=1e-5)


@pytest.mark.parametrize("options", [{"worker_count": 0}, {"use_thread_prefetch": True}, {}])
@pytest.mark.parametrize("requests", [[], [None, None]])
def test_no_requests_give_no_batches(tokenizer, requests, options):
    loader = lmeval_preprocessing_pipeline(0, 1, MESHES["eight devices"](), requests, 8, tokenizer, **options)
    assert (len(loader), loader.dataset_size) == (0, 0)
    for _ in range(2):
        assert list(loader) == []
    with pytest.raises(StopIteration):
        next(loader)
    state = loader.get_state()
    assert state == {"step": 0, "iterator_length": 0}
    loader.set_state(state)
    loader.reset()
    assert list(loader) == []
    loader.close()


def test_requests_with_more_than_two_arguments(tokenizer):
    """The first two are prefix and text, as in `ParseLMEval`."""
    extra = Instance(request_type="loglikelihood", doc={}, arguments=("a", "bc", {"image": 1}), idx=0)
    plain = Instance(request_type="loglikelihood", doc={}, arguments=("a", "bc"), idx=0)
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    made = [
        list(lmeval_preprocessing_pipeline(0, 1, mesh, [each], 1, tokenizer, worker_count=0))
        for each in (extra, plain, {"req": extra})
    ]
    assert made[0] == made[1] == made[2]
