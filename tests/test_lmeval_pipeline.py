"""The examples of the reference's API, verbatim, and the reference's names and figures."""

import inspect
import logging
import subprocess
import sys

import grain
import jax
import numpy as np
import pytest
import tokenizers
from grain.experimental import assert_equal_output_after_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from exhaustive import exhaustive
from small_tokenizer import BOS, EOS, write_tokenizer
from trees import pytree_diff
from windrow import lmeval_pipeline
from windrow.batch import join_rows
from windrow.lmeval_pipeline import (
    CompleteLLMIndexedBatch,
    LLMIndexedBatch,
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
                "document_idx": np.array([1], np.int32),
                "inputs_position": np.array([[0, 1]]),
                "targets_position": np.array([[0, 1]]),
                "sequence_idx": np.array([0], np.int32),
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
def test_signatures_match_the_reference(name):
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
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])


def requests(count):
    return [{"prefix": "a" * (number % 9), "text": "b" * (1 + number % 5)} for number in range(count)]


def pipeline(mesh, tokenizer, dataset, host=0, hosts=1, batch_size=4, **options):
    options = {"padding_multiple": 4, "worker_count": 0, **options}
    return lmeval_preprocessing_pipeline(host, hosts, mesh, dataset, batch_size, tokenizer, **options)


def test_batch_of_one_request(mesh, tokenizer):
    request = Instance(request_type="loglikelihood", doc={}, idx=0, arguments=("ab ", "cd"))
    rolling = Instance(request_type="loglikelihood_rolling", doc={}, idx=0, arguments=("xyz",))
    (batch,) = pipeline(mesh, tokenizer, [request, {"idx": 6, "req": rolling}, {"prefix": "", "text": ""}])
    a, b, c, d, x, y, z, space = (ord(letter) for letter in "abcdxyz ")
    expected = LLMIndexedBatch(
        inputs=[[BOS, a, b, space, c, 0, 0, 0], [BOS, x, y, 0, 0, 0, 0, 0], [0] * 8, [0] * 8],
        targets=[[a, b, space, c, d, 0, 0, 0], [x, y, z, 0, 0, 0, 0, 0], [0] * 8, [0] * 8],
        inputs_position=[[0, 1, 2, 3, 4, 0, 0, 0], [0, 1, 2, 0, 0, 0, 0, 0], [0] * 8, [0] * 8],
        targets_position=[[0, 1, 2, 3, 4, 0, 0, 0], [0, 1, 2, 0, 0, 0, 0, 0], [0] * 8, [0] * 8],
        inputs_segmentation=[[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [0] * 8, [0] * 8],
        targets_segmentation=[[0, 0, 0, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [0] * 8, [0] * 8],
        document_idx=[1, 7, 3, 0],
        sequence_idx=[0, 0, 0, 0],
        _document_borders=[[False] * 8] * 4,
    )
    for name, part in vars(expected).items():
        assert np.asarray(getattr(batch, name)).tolist() == part, name


class TestDeliberateDifferences:
    """The differences from the original's results that docs/xlstm-jax.md describes."""

    def test_tokenizers_own_special_tokens_are_not_added(self, mesh, tmp_path):
        folder = write_tokenizer(tmp_path)
        own = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
        own.post_processor = tokenizers.processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
        )
        own.save(f"{folder}/tokenizer.json")
        assert own.encode("a").ids == [BOS, ord("a"), EOS]
        (batch,) = pipeline(mesh, folder, [{"prefix": "a", "text": "bc"}], batch_size=1)
        assert np.asarray(batch.inputs).tolist() == [[BOS, ord("a"), ord("b"), 0]]
        assert np.asarray(batch.targets).tolist() == [[ord("a"), ord("b"), ord("c"), 0]]

    def test_eos_inside_a_text_is_an_ordinary_token(self, mesh, tokenizer):
        (batch,) = pipeline(mesh, tokenizer, [{"prefix": "a<eos>", "text": "b<eos>c"}], batch_size=1)
        a, b, c = b"abc"
        expected = {
            "inputs": [BOS, a, EOS, b, EOS, 0, 0, 0],
            "targets": [a, EOS, b, EOS, c, 0, 0, 0],
            "inputs_position": [0, 1, 2, 3, 4, 0, 0, 0],
            "inputs_segmentation": [1, 1, 1, 1, 1, 0, 0, 0],
            "targets_segmentation": [0, 0, 1, 1, 1, 0, 0, 0],
            "_document_borders": [False] * 8,
        }
        assert {name: np.asarray(getattr(batch, name))[0].tolist() for name in expected} == expected

    def test_requests_are_sorted_over_all_hosts(self, mesh, tokenizer):
        longest_last = [{"prefix": "", "text": "a" * (1 + number)} for number in range(8)]
        shares = [list(pipeline(mesh, tokenizer, longest_last, host, 2, 4)) for host in range(2)]
        documents = [[np.asarray(batch.document_idx).tolist() for batch in share] for share in shares]
        assert documents == [[[8, 7], [4, 3]], [[6, 5], [2, 1]]]
        assert [[batch.inputs.shape for batch in share] for share in shares] == [[(2, 8), (2, 4)]] * 2


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_hosts_batches_form_the_global_batches(mesh, tokenizer, data):
    hosts = data.draw(st.integers(1, 16))
    batch_size = hosts * data.draw(st.integers(1, 3))
    count = data.draw(st.integers(1, 60))
    whole = list(pipeline(mesh, tokenizer, requests(count), batch_size=batch_size))
    parts = [
        list(pipeline(mesh, tokenizer, requests(count), host, hosts, batch_size)) for host in range(hosts)
    ]
    assert {len(part) for part in parts} == {-(-count // batch_size)} == {len(whole)}
    for shares, batch in zip(zip(*parts, strict=True), whole, strict=True):
        assert join_rows(jax.tree.map(np.asarray, shares)) == jax.tree.map(np.asarray, batch)
    documents = np.concatenate([batch.document_idx for batch in whole])
    assert sorted(documents[:count]) == list(range(1, count + 1))
    assert not documents[count:].any()


WORKERS = {
    "none": {"worker_count": 0},
    "a thread": {"worker_count": 1, "use_thread_prefetch": True},
    "three threads": {"worker_count": 3, "worker_buffer_size": 2, "use_thread_prefetch": True},
    "the default": {"worker_count": 1},
    "two processes": {"worker_count": 2, "worker_buffer_size": 2},
}


@pytest.mark.parametrize("kind", ["none", "a thread", "three threads", exhaustive("two processes")])
def test_workers_do_not_change_batches(tokenizer, kind):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    expected = list(pipeline(mesh, tokenizer, requests(50), batch_size=8))
    loader = pipeline(mesh, tokenizer, requests(50), batch_size=8, **WORKERS[kind])
    assert len(loader) == 7
    assert list(loader) == expected
    loader.set_state({"step": 4, "iterator_length": 7})
    assert list(loader) == expected[4:]
    loader.close()


@pytest.mark.parametrize(
    ("kind", "count"), [("none", 30), ("three threads", 30), exhaustive("the default", 8)]
)
def test_grains_checkpoint_helper(mesh, tokenizer, kind, count):
    assert_equal_output_after_checkpoint(pipeline(mesh, tokenizer, requests(count), **WORKERS[kind]))


def test_worker_process_outside_absl(tokenizer):
    """The default worker process works in a new interpreter whose absl flags have not been parsed."""
    script = """
import sys
import jax
from windrow.lmeval_pipeline import lmeval_preprocessing_pipeline

requests = [{"prefix": "a", "text": "b" * (1 + number % 9)} for number in range(10)]
mesh = jax.make_mesh((1,), ("data",))
loader = lmeval_preprocessing_pipeline(0, 1, mesh, requests, 4, sys.argv[1])
print([batch.inputs.shape for batch in loader])
"""
    run = subprocess.run(
        [sys.executable, "-c", script, tokenizer], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("[(4, 128), (4, 128), (4, 128)]")


def test_state_of_four_hosts_resumes_on_two(mesh, tokenizer):
    four = [pipeline(mesh, tokenizer, requests(50), host, 4, 8) for host in range(4)]
    for loader in four:
        for _ in range(3):
            next(loader)
    (state,) = {tuple(loader.get_state().items()) for loader in four}
    two = [pipeline(mesh, tokenizer, requests(50), host, 2, 8, **WORKERS["a thread"]) for host in range(2)]
    for loader in two:
        loader.set_state(dict(state))
    rest = list(pipeline(mesh, tokenizer, requests(50), batch_size=8))[3:]
    for shares, batch in zip(zip(*two, strict=True), rest, strict=True):
        assert join_rows(jax.tree.map(np.asarray, shares)) == jax.tree.map(np.asarray, batch)


def test_plan_is_logged(mesh, tokenizer, caplog):
    with caplog.at_level(logging.INFO, logger=lmeval_pipeline.LOGGER.name):
        pipeline(mesh, tokenizer, requests(50))
    assert "50 segments" in caplog.text


class TestFirstToken:
    def first(self, mesh, folder, **options):
        (batch,) = pipeline(mesh, folder, [{"prefix": "a", "text": "b"}], batch_size=1, **options)
        return int(batch.inputs[0, 0])

    @pytest.mark.parametrize(
        ("bos", "eos", "given", "first"),
        [
            (True, True, {}, BOS),
            (False, True, {}, EOS),
            (False, True, {"bos_token_id": 7}, 7),
            (False, False, {"bos_token_id": 7, "eos_token_id": 8}, 7),
            (False, False, {"eos_token_id": 8}, 8),
            (False, False, {"bos_token_id": 0}, 0),
        ],
    )
    def test_bos_else_eos(self, mesh, tmp_path, bos, eos, given, first):
        assert self.first(mesh, write_tokenizer(tmp_path, bos=bos, eos=eos), **given) == first

    def test_tokenizers_own_bos_is_kept_and_logged(self, mesh, tokenizer, caplog):
        assert self.first(mesh, tokenizer, bos_token_id=7) == BOS
        assert f"bos_token_id is 7; the tokenizer's own, {BOS}, is used" in caplog.text

    def test_no_first_token(self, mesh, tmp_path):
        with pytest.raises(ValueError, match=r"neither a BOS nor an EOS.*give bos_token_id or eos_token_id"):
            self.first(mesh, write_tokenizer(tmp_path, bos=False, eos=False))
        with pytest.raises(ValueError, match="eos_token_id is -1; it must be at least 0"):
            self.first(mesh, write_tokenizer(tmp_path, bos=False, eos=False), eos_token_id=-1)


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        ([{"prefix": "a"}], {}, KeyError, "request 0 has no 'text'"),
        (
            None,
            {"batch_size": 6, "hosts": 4},
            ValueError,
            "global_batch_size is 6, which is not divisible by 4 hosts",
        ),
        (None, {"batch_size": 0}, ValueError, "global_batch_size is 0"),
        (None, {"hosts": 2, "host": 2}, IndexError, "host index is 2; with 2 hosts it must be from 0 to 1"),
        (None, {"hosts": 0}, ValueError, "host count is 0"),
        (None, {"worker_count": -1}, ValueError, "worker_count is -1"),
        (None, {"worker_buffer_size": 0}, ValueError, "worker_buffer_size is 0"),
        (None, {"padding_multiple": 0}, ValueError, "padding_multiple is 0"),
        (
            [Instance(request_type="generate_until", doc={}, idx=0, arguments=("a", {}))],
            {},
            ValueError,
            "request 0 is of type 'generate_until'",
        ),
    ],
)
def test_bad_input(mesh, tokenizer, dataset, options, error, message):
    with pytest.raises(error, match=message):
        pipeline(mesh, tokenizer, requests(5) if dataset is None else dataset, **options)


def test_devices_that_do_not_divide_the_batch(tokenizer):
    mesh = jax.make_mesh((8,), ("data",))
    with pytest.raises(ValueError, match="global_batch_size is 12, which is not divisible by the 8 devices"):
        pipeline(mesh, tokenizer, requests(5), batch_size=12)
    with pytest.raises(ValueError, match="divisible by the 16 devices of all hosts; use a multiple of 16"):
        pipeline(mesh, tokenizer, requests(5), batch_size=8, hosts=2)
    with pytest.raises(TypeError, match=r"mesh must be a jax.sharding.Mesh, not list"):
        pipeline([1], tokenizer, requests(5))


def test_missing_tokenizer(mesh):
    with pytest.raises(FileNotFoundError, match="no/such/tokenizer"):
        pipeline(mesh, "no/such/tokenizer.json", requests(5))


@pytest.mark.exhaustive
def test_reference_figures(local_suite, evals, mesh):
    assert len(local_suite) == 38_003
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
