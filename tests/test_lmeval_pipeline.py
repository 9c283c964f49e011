"""Each example of the reference's API, as written there, and the reference's names and figures."""

import inspect
import logging

import grain
import jax
import numpy as np
import pytest
from lm_eval.api.instance import Instance

from trees import pytree_diff
from windrow import lmeval_pipeline
from windrow.lmeval_pipeline import (
    CompleteLLMIndexedBatch,
    MultihostSortedRemapDataset,
    PadBatchDataset,
    PadSequenceInBatchDataset,
    ParseLMEval,
    SortedDataset,
    _pad_batch_multiple,
    lmeval_preprocessing_pipeline,
    token_length,
)


def test_parse_example():
    assert (
        pytree_diff(
            ParseLMEval().map(
                {
                    "idx": 1,
                    "req": Instance(
                        request_type="loglikelihood_rolling", doc={}, idx=0, arguments=("Prefix", "Main")
                    ),
                }
            ),
            {"idx": 1, "prefix": "Prefix", "text": "Main"},
        )
        is None
    )


def test_complete_example():
    assert (
        pytree_diff(
            CompleteLLMIndexedBatch().map(
                {"inputs": np.array([[1, 2]]), "targets": np.array([[1, 2]]), "idx": np.array(0)}
            ),
            {
                "inputs": np.array([[1, 2]]),
                "targets": np.array([[1, 2]]),
                "document_idx": np.array([1]),
                "inputs_position": np.array([[0, 1]]),
                "targets_position": np.array([[0, 1]]),
                "sequence_idx": np.array([0]),
                "_document_borders": np.array([[False, False]]),
            },
        )
        is None
    )


def test_token_length_example():
    assert repr(token_length({"inputs": np.array([[1, 2, 3]])})) == "3"


def test_pad_batch_examples():
    source = grain.MapDataset.source([3, 1, 2])
    assert PadBatchDataset(source, multiple_of=4, min_length=0, pad_elem=0)[3] == 0
    assert len(PadBatchDataset(source, multiple_of=4, min_length=0, pad_elem=0)) == 4


def test_pad_batch_multiple_example():
    padded = _pad_batch_multiple([np.array([[1, 2]]), np.array([[11, 12, 13]])], multiple_of=4, axis=1)
    assert pytree_diff(padded, np.array([[1, 2, 0, 0], [11, 12, 13, 0]])) is None


def test_pad_sequence_example():
    source = grain.MapDataset.source(
        [
            {"a": np.array([[3, 1, 5]])},
            {"a": np.array([[2, 4]])},
            {"a": np.array([[2, 4, 3, 3]])},
            {"a": np.array([[2, 4]])},
        ]
    )
    expected = [
        {"a": np.array([[3, 1, 5]])},
        {"a": np.array([[2, 4, 0]])},
        {"a": np.array([[2, 4, 3, 3, 0, 0]])},
        {"a": np.array([[2, 4, 0, 0, 0, 0]])},
    ]
    assert pytree_diff(list(PadSequenceInBatchDataset(source, batch_size=2, multiple_of=3)), expected) is None


def test_sorted_examples():
    assert SortedDataset(grain.MapDataset.source([3, 1, 2]), lambda x: x)[0] == 1
    assert SortedDataset(grain.MapDataset.source([3, 1, 2]), lambda x: x, reverse=True)[0] == 3
    source = grain.MapDataset.source([{"inputs": np.array([[1, 2, 3]])}, {"inputs": np.array([[1, 2]])}])
    assert repr(SortedDataset(source, token_length)[0]) == "{'inputs': array([[1, 2]])}"


def test_remap_example():
    ds = MultihostSortedRemapDataset(
        grain.MapDataset.source([1, 2, 3, 4, 5, 6, 7, 8]), global_batch_size=4, dataloader_host_count=2
    )
    host_slices = [slice(0, 4), slice(4, 8)]
    batches = [list(ds.slice(host_slices[0]).batch(2)), list(ds.slice(host_slices[1]).batch(2))]
    expected = [[np.array([1, 2]), np.array([5, 6])], [np.array([3, 4]), np.array([7, 8])]]
    assert pytree_diff(batches, expected) is None


SIGNATURES = {
    ParseLMEval: "(request_name='req')",
    ParseLMEval.map: "(self, item)",
    CompleteLLMIndexedBatch.map: "(item)",
    lmeval_pipeline.empty_llm_indexed_sample: "()",
    token_length: "(item)",
    PadBatchDataset: "(dataset, multiple_of, min_length, pad_elem)",
    _pad_batch_multiple: "(batch, multiple_of=64, axis=1, pad_value=0, batch_size_pad=None)",
    PadSequenceInBatchDataset: "(dataset, batch_size, multiple_of=64, pad_value=0)",
    SortedDataset: "(dataset, key, reverse=False)",
    MultihostSortedRemapDataset: "(dataset, global_batch_size, dataloader_host_count)",
    lmeval_preprocessing_pipeline: "(dataloading_host_index, dataloading_host_count, global_mesh, dataset, "
    "global_batch_size, tokenizer_path, hf_access_token=None, tokenizer_cache_dir=None, eos_token_id=None, "
    "bos_token_id=None, worker_count=1, worker_buffer_size=1, padding_multiple=128, "
    "use_thread_prefetch=False)",
}


@pytest.mark.parametrize("name", SIGNATURES, ids=lambda name: name.__qualname__)
def test_signatures_are_the_references(name):
    signature = inspect.signature(name)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    shown = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    assert str(shown) == SIGNATURES[name]


def test_names_bases_and_attributes():
    assert isinstance(lmeval_pipeline.LOGGER, logging.Logger)
    assert issubclass(ParseLMEval, grain.transforms.Map)
    assert issubclass(CompleteLLMIndexedBatch, grain.transforms.Map)
    source = grain.MapDataset.source([1, 2])
    attributes = {
        PadBatchDataset(source, 4, 6, 0): {
            "dataset": source,
            "multiple_of": 4,
            "min_length": 6,
            "pad_elem": 0,
        },
        PadSequenceInBatchDataset(source, 2): {
            "dataset": source,
            "batch_size": 2,
            "multiple_of": 64,
            "pad_value": 0,
        },
        SortedDataset(source, abs): {"dataset": source, "key": abs},
        MultihostSortedRemapDataset(source, 2, 1): {
            "dataset": source,
            "global_batch_size": 2,
            "dataloader_host_count": 1,
        },
    }
    for dataset, expected in attributes.items():
        assert isinstance(dataset, grain.MapDataset)
        assert {name: getattr(dataset, name) for name in expected} == expected
    assert not set(lmeval_pipeline.__all__) - set(dir(lmeval_pipeline))


@pytest.fixture(scope="module")
def local_suite(evals):
    """The 38,003 ``loglikelihood`` requests of the local tasks."""
    lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
    manager = lm_eval_tasks.TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    requests = []
    for task in _tasks(lm_eval_tasks.get_task_dict(["local_suite"], manager)):
        task.build_all_requests(limit=None, rank=0, world_size=1)
        requests += [request for request in task.instances if request.request_type == "loglikelihood"]
    return requests


def _tasks(tasks):
    for task in tasks.values():
        yield from _tasks(task) if isinstance(task, dict) else [task]


@pytest.mark.filterwarnings("ignore")
def test_the_references_figures(local_suite, evals):
    assert len(local_suite) == 38_003
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    loader = lmeval_preprocessing_pipeline(
        0, 1, mesh, local_suite, 64, str(evals / "parity" / "tiny-gpt2"), worker_count=0
    )
    assert len(loader) == 594
    shapes, seen, tokens, real = set(), [], 0, 0
    for batch in loader:
        shapes.add(batch.inputs.shape)
        tokens += batch.inputs.size
        real += int(np.sum(batch.inputs_segmentation))
        seen.append(np.asarray(batch.document_idx))
    assert shapes == {(64, 1152), (64, 384), (64, 256), (64, 128)}
    assert (tokens, real) == (5_373_952, 2_230_174)
    seen = np.concatenate(seen)
    np.testing.assert_array_equal(np.sort(seen[seen > 0]), np.arange(1, 38_004))
