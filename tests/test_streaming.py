"""Streams are sorted within windows, have planned shapes, and resume exactly after any batch."""

import itertools
import json

import cloudpickle
import grain
import jax
import numpy as np
import pytest
from absl import flags
from grain.experimental import assert_equal_output_after_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from small_tokenizer import BOS, write_tokenizer
from trees import pytree_diff
from windrow import evaluation_stream
from windrow.datasets import StreamedBatchDataset


def stream(lengths, **options):
    """Requests whose model inputs have these lengths; the tokens of request ``n`` are all ``n + 1``."""
    requests = [{"tokens": np.full(length + 1, number + 1)} for number, length in enumerate(lengths)]
    source = grain.MapDataset.source(requests).to_iter_dataset(grain.ReadOptions(0, 0))
    options = {"window": 4, "batch_size": 2, "padded_lengths": [4, 8], **options}
    return evaluation_stream(source, None, **options)


def documents(batches):
    return [document for batch in batches for document in batch.document_idx.tolist() if document]


def test_module_example():
    batches = list(stream([3, 7, 2, 4, 1, 6, 5, 8, 2]))
    assert [batch.inputs_segmentation.sum(1).tolist() for batch in batches] == [
        [7, 4],
        [3, 2],
        [8, 6],
        [5, 1],
        [2, 0],
    ]
    assert [batch.inputs.shape for batch in batches] == [(2, 8), (2, 4), (2, 8), (2, 8), (2, 4)]
    assert documents(batches) == [2, 4, 1, 3, 8, 6, 7, 5, 9]
    assert batches[0].inputs.tolist() == [[2] * 7 + [0], [4] * 4 + [0] * 4]
    assert batches[0].targets_segmentation.tolist() == batches[0].inputs_segmentation.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=40), st.integers(1, 5), st.integers(0, 9), st.integers(1, 4))
def test_windows_of_all_hosts(lengths, batch_size, more, hosts):
    """No request is lost or repeated, windows are sorted, shapes are as planned, and hosts agree."""
    batch_size *= hosts
    options = {"window": batch_size + more, "batch_size": batch_size, "padded_lengths": [2, 3, 8]}
    parts = [list(stream(lengths, **options, host_index=host, host_count=hosts)) for host in range(hosts)]
    batches = [
        jax.tree.map(lambda *arrays: np.concatenate(arrays), *shares) for shares in zip(*parts, strict=True)
    ]
    assert {batch.inputs.shape for batch in batches} <= set(stream(lengths, **options).shapes)
    expected, counts = [], []
    for first in range(0, len(lengths), batch_size + more):
        window = lengths[first:][: batch_size + more]
        expected += [first + number + 1 for number in np.argsort(-np.array(window), kind="stable")]
        counts.append(-(-len(window) // batch_size))
    assert documents(batches) == expected
    assert len(batches) == sum(counts)


@pytest.mark.parametrize("window", [2, 3, 4, 7, 100])
def test_checkpoints(window):
    assert_equal_output_after_checkpoint(stream([3, 7, 2, 4, 1, 6, 5, 8, 2], window=window))


def test_checkpoints_with_transforms_before_and_after():
    assert_equal_output_after_checkpoint(stream([3, 7, 2, 4, 1]).map(lambda batch: batch.inputs))
    shuffled = grain.MapDataset.range(20).shuffle(seed=1).to_iter_dataset().filter(lambda x: x % 3 > 0)
    shuffled = grain.experimental.WindowShuffleIterDataset(shuffled, window_size=5, seed=2)
    requests = shuffled.map(lambda number: {"tokens": np.arange(number % 7 + 1), "idx": number})
    dataset = evaluation_stream(requests, None, window=6, batch_size=2, padded_lengths=[6])
    assert_equal_output_after_checkpoint(dataset)
    assert sorted(documents(dataset)) == [number + 1 for number in range(20) if number % 3]


def test_state_is_json_and_records_the_window_and_batch():
    iterator = iter(stream([3, 7, 2, 4, 1, 6]))
    states = [json.loads(json.dumps(iterator.get_state())) for _ in iterator]
    places = [(state["first_request"], state["next_batch"]) for state in states]
    assert places == [(0, 1), (4, 0), (6, 0)]


def test_iterator_can_move_back_and_forth():
    iterator = iter(stream([3, 7, 2, 4, 1, 6, 5, 8]))
    states = [iterator.get_state()]
    batches = []
    for batch in iterator:
        batches.append(batch)
        states.append(iterator.get_state())
    for start in (4, 0, 3, 1, 2):
        iterator.set_state(states[start])
        assert pytree_diff(list(iterator), batches[start:]) is None
    with pytest.raises(StopIteration):
        next(iterator)


def test_texts_are_encoded_as_in_lm_eval(tmp_path):
    requests = [{"prefix": "ab ", "text": "c"}, {"prefix": "", "text": "xyz"}, {"prefix": "a", "text": "b"}]
    source = grain.MapDataset.source(requests).to_iter_dataset()
    dataset = evaluation_stream(source, write_tokenizer(tmp_path), window=3, batch_size=3, padded_lengths=[4])
    (batch,) = dataset
    assert batch.document_idx.tolist() == [1, 2, 3]
    a, b, c, x, y, z, space = (ord(letter) for letter in "abcxyz ")
    assert batch.inputs.tolist() == [[a, b, space, 0], [BOS, x, y, 0], [a, 0, 0, 0]]
    assert batch.targets.tolist() == [[b, space, c, 0], [x, y, z, 0], [b, 0, 0, 0]]
    assert batch.targets_segmentation.tolist() == [[0, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]]


def test_worker_processes(tmp_path):
    requests = [{"prefix": "a" * (number % 5), "text": "b" * (1 + number % 3)} for number in range(30)]
    source = grain.MapDataset.source(requests).to_iter_dataset(grain.ReadOptions(0, 0))
    tokenizer = write_tokenizer(tmp_path)
    dataset = evaluation_stream(source, tokenizer, window=8, batch_size=4, padded_lengths=[4, 8])
    flags.FLAGS.mark_as_parsed()  # required for Grain's workers outside absl programs
    iterator = iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=1)))
    assert list(iterator) == list(cloudpickle.loads(cloudpickle.dumps(dataset)))
    iterator.close()


def windows_of(batches):
    """The windows of eight requests that each batch's documents are from."""
    return [{(document - 1) // 8 for document in documents([batch])} for batch in batches]


@pytest.mark.exhaustive
def test_workers_number_documents_by_position_in_the_stream():
    lengths = [1 + number * 5 % 8 for number in range(53)]
    dataset = stream(lengths, window=8, batch_size=4)
    flags.FLAGS.mark_as_parsed()
    iterator = iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=2)))
    batches = [next(iterator) for _ in range(5)]
    state = iterator.get_state()
    batches += list(iterator)
    assert sorted(documents(batches)) == list(range(1, 54))
    for batch in batches:
        assert (batch.inputs == batch.document_idx[:, None] * batch.inputs_segmentation).all()
    alone = {tuple(documents([batch])): batch for batch in dataset}
    for batch in batches:
        assert batch == alone.pop(tuple(documents([batch])))
    assert not alone
    assert windows_of(batches)[:4] == [{0}, {1}, {0}, {1}]  # both workers produced batches
    iterator.set_state(state)
    assert list(iterator) == batches[5:]
    iterator.close()


@given(st.lists(st.integers(0, 8), max_size=40), st.integers(1, 5), st.integers(2, 6))
def test_windows_of_all_workers(lengths, workers, window):
    """Together, the workers produce each batch of a single reader once."""
    found = []
    for worker in range(workers):
        part = stream(lengths, window=window)
        part.set_slice(slice(worker, None, workers))
        found += list(part)
    expected = list(stream(lengths, window=window))
    assert sorted(map(documents, ([each] for each in found))) == sorted(
        map(documents, ([each] for each in expected))
    )


def test_workers_can_be_checkpointed():
    for worker in range(3):
        part = stream([3, 7, 2, 4, 1, 6, 5, 8, 2, 1, 1, 1, 5], window=2)
        part.set_slice(slice(worker, None, 3))
        assert_equal_output_after_checkpoint(part)


GOOD = {"prefix": "a", "text": "bc"}


def texts(tmp_path, requests, **options):
    source = grain.MapDataset.source(requests).to_iter_dataset()
    options = {"window": 4, "batch_size": 2, "padded_lengths": [4], "max_length": 4, **options}
    return evaluation_stream(source, write_tokenizer(tmp_path), **options)


def test_bad_request_is_named_by_position_in_the_stream(tmp_path):
    requests = [GOOD] * 9 + [{"prefix": "a", "text": ""}, {"prefix": "ab", "text": "cdefg"}]
    with pytest.raises(ValueError, match="its continuation encodes to no tokens") as raised:
        list(texts(tmp_path, requests))
    first, second, last = str(raised.value).splitlines()
    assert first.startswith("request 9: its continuation encodes to no tokens")
    assert first.endswith("; it starts with 'a'")
    assert second.startswith("request 10: its continuation has 5 tokens, but the model takes at most 4")
    assert last == 'Fix these requests, or skip them with on_bad_request="skip".'
    requests[9] |= {"idx": 70}
    with pytest.raises(ValueError, match="request 70: its continuation encodes to no tokens"):
        list(texts(tmp_path, requests))


def test_bad_requests_are_left_out(tmp_path, caplog):
    requests = [GOOD] * 11
    requests[2] = {"prefix": "a", "text": ""}
    requests[4:6] = [{"prefix": "a"}, {"prefix": "a", "text": 5}]
    requests[8] = {"prefix": "a" * 8, "text": "b"}
    with caplog.at_level("WARNING"):
        kept = documents(texts(tmp_path, requests, max_length=None, on_bad_request="skip"))
    assert kept == [1, 2, 4, 7, 8, 10, 11]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3  # one per window
    assert "request 2: its continuation encodes to no tokens" in messages[0]
    assert "request 4 has no 'text'" in messages[1]
    assert "text of request 5 is an int" in messages[1]
    assert "request 8: the model would see 8 tokens, more than 4, the last of padded_lengths" in messages[2]


def test_bad_tokens_are_left_out(caplog):
    requests = [
        {"tokens": [1, 2]},
        {"tokens": []},
        {"text": "a"},
        5,
        {"tokens": np.arange(12)},
        {"tokens": [3, 4]},
    ]
    source = grain.MapDataset.source(requests).to_iter_dataset()
    options = {"window": 6, "batch_size": 2, "padded_lengths": [4], "on_bad_request": "skip"}
    assert documents(evaluation_stream(source, None, **options)) == [1, 6]
    assert "request 3 is an int; it must be a dictionary of tokens" in caplog.text
    all_bad = grain.MapDataset.source(requests[1:5] * 3).to_iter_dataset()
    assert list(evaluation_stream(all_bad, None, **options)) == []


def test_infinite_stream():
    endless = grain.MapDataset.source([{"tokens": np.arange(3)}]).repeat().to_iter_dataset()
    dataset = evaluation_stream(endless, None, window=10, batch_size=4, padded_lengths=[2])
    assert documents(itertools.islice(dataset, 6)) == list(range(1, 21))


def test_empty_stream_has_no_batches():
    assert list(stream([])) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 1}, ValueError, "window is 1, less than the 2 rows of a batch"),
        ({"window": 0}, ValueError, "window is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"padded_lengths": []}, ValueError, "padded_lengths"),
        ({"padded_lengths": [4, 4]}, ValueError, r"padded_lengths\[1\] is 4"),
        ({"padded_lengths": [0, 4]}, ValueError, r"padded_lengths\[0\] is 0"),
        ({"padded_lengths": [4.0]}, TypeError, r"padded_lengths\[0\] must be a whole number, not float"),
        ({"padded_lengths": 8}, TypeError, "padded_lengths must be a list of lengths, not 8"),
        ({"host_index": "0"}, TypeError, "host index must be a whole number, not '0'"),
        ({"host_count": 3}, ValueError, "batch_size"),
        ({"host_index": 1}, IndexError, "host index is 1"),
        ({"on_bad_request": "drop"}, ValueError, "on_bad_request must be 'raise' or 'skip', not 'drop'"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        stream([1, 2], **options)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (
            {"tokens": np.arange(10), "idx": 5},
            ValueError,
            "request 5: the model would see 9 tokens, more than 8, the last of padded",
        ),
        ({"text": "a"}, KeyError, r"request 0 has no 'tokens', only \['text'\]; give tokens, or a tokenizer"),
        ({"tokens": []}, ValueError, "tokens of request 0 are"),
        ({"tokens": np.ones((1, 2), int)}, ValueError, "tokens of request 0 are int64"),
        ({"tokens": np.ones(2)}, ValueError, "tokens of request 0 are float64"),
        ({"tokens": np.array([1, -1])}, ValueError, "tokens of request 0 range from -1 to 1"),
        ({"tokens": np.array([1, 2**31])}, ValueError, "non-negative and fit int32"),
        (
            {"tokens": np.arange(3), "score_start": 4},
            ValueError,
            "score_start of request 0 is 4.* from 1 to 3",
        ),
        ({"tokens": np.arange(3), "score_start": 0}, ValueError, "score_start of request 0 is 0"),
        ({"tokens": np.arange(3), "score_start": 1.5}, TypeError, "score_start of request 0 is a float"),
        ({"tokens": np.arange(3), "idx": 1.5}, TypeError, "idx of request 0 is a float; it must be a whole"),
        ({"tokens": np.arange(3), "idx": -1}, ValueError, "idx of request 0 is -1; it must be from 0 to"),
    ],
)
def test_bad_requests(request_, error, message):
    source = grain.MapDataset.source([request_]).to_iter_dataset()
    dataset = evaluation_stream(source, None, window=2, batch_size=2, padded_lengths=[4, 8])
    with pytest.raises(error, match=message):
        next(iter(dataset))


def test_bad_streams_and_states():
    options = {"window": 2, "batch_size": 2, "padded_lengths": [4]}
    with pytest.raises(TypeError, match=r"requests must be a grain.IterDataset, not SourceMapDataset"):
        evaluation_stream(grain.MapDataset.source([1]), None, **options)
    with pytest.raises(TypeError, match=r"not generator; wrap its source sequence: grain.MapDataset.sour"):
        evaluation_stream((request for request in [1]), None, **options)
    iterator = iter(stream([1, 2, 3]))
    with pytest.raises(KeyError, match="state has no 'before_window', only"):
        iterator.set_state({"next_index": 3})
    iterator.set_state({**iterator.get_state(), "next_batch": 7})
    with pytest.raises(IndexError, match="next_batch is 7, but its window has 2 batches"):
        next(iterator)
    assert str(stream([1])) == "StreamedBatchDataset(window=4, shapes=[(2, 4), (2, 8)])"
    assert isinstance(stream([1]), StreamedBatchDataset)
