"""Batches of a plan: every host has its planned rows, with the planned scored tokens."""

import copy

import cloudpickle
import grain
import jax
import numpy as np
import pytest
from grain.experimental import assert_equal_output_after_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from elements import Counting
from small_tokenizer import BOS, write_tokenizer
from trees import pytree_diff
from windrow import Plan, evaluation_dataset
from windrow.batch import HostBatch
from windrow.datasets import HostBatchDataset, IndexedBatchDataset, ReadAhead, Sequences
from windrow.planning import group_identical
from windrow.sharding import HostShare


def sequences_of(lists, starts=None):
    """Sequences from token lists, scored from the second token on by default."""
    return Sequences(
        np.concatenate([np.zeros(0, np.int32), *(np.array(tokens, np.int32) for tokens in lists)]),
        np.cumsum([0, *map(len, lists)]).astype(np.int64),
        np.array([1] * len(lists) if starts is None else starts, np.int32),
        np.arange(len(lists)),
    )


@st.composite
def random_sequences(draw):
    """Sequences of up to 12 tokens, each with a scoring start."""
    lists = draw(st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=12), min_size=1, max_size=30))
    starts = [draw(st.integers(1, len(tokens) - 1)) for tokens in lists]
    return sequences_of(lists, starts)


def segment(sequences, number):
    return sequences.tokens[sequences.offsets[number] : sequences.offsets[number + 1]]


@settings(max_examples=60, deadline=None)
@given(random_sequences(), st.integers(1, 16), st.integers(1, 3), st.integers(1, 5))
def test_indexed_batches_of_all_hosts_form_the_global_batches(sequences, hosts, host_rows, multiple):
    plan = Plan(sequences.lengths(), batch_size=hosts * host_rows, max_shapes=None, padding_multiple=multiple)
    parts = [IndexedBatchDataset(plan, sequences, HostShare.contiguous(host, hosts)) for host in range(hosts)]
    count = -(-len(sequences.requests) // (hosts * host_rows))
    assert {len(part) for part in parts} == {count}
    documents = []
    for batch in range(count):
        shares = [part[batch] for part in parts]
        assert {share.inputs.shape for share in shares} == {(host_rows, shares[0].inputs.shape[1])}
        whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *shares)
        check_indexed(whole, sequences, multiple, last=batch == count - 1)
        documents += whole.document_idx.tolist()
    numbers = [document for document in documents if document]
    assert sorted(numbers) == list(range(1, len(sequences.requests) + 1))
    assert numbers == [number + 1 for number in np.argsort(-sequences.lengths(), kind="stable")]


def check_indexed(batch, sequences, multiple, last):
    """Rows are documents, or filler at the end of the last batch, padded no further than the multiple."""
    rows, length = batch.inputs.shape
    longest = 0
    for row in range(rows):
        document = int(batch.document_idx[row])
        if not document:
            assert last
            assert not any(np.any(part[row]) for part in vars(batch).values())
            assert not batch.document_idx[row:].any()
            continue
        tokens, start = segment(sequences, document - 1), sequences.score_starts[document - 1]
        real = len(tokens) - 1
        longest = max(longest, real)
        expected = {
            "inputs": tokens[:-1],
            "targets": tokens[1:],
            "inputs_position": np.arange(real),
            "targets_position": np.arange(real),
            "inputs_segmentation": np.ones(real),
            "targets_segmentation": np.arange(1, real + 1) >= start,
        }
        for name, values in expected.items():
            assert np.array_equal(getattr(batch, name)[row], np.pad(values, (0, length - real))), name
    assert length == -(-longest // multiple) * multiple
    assert not batch.sequence_idx.any()
    assert batch._document_borders.dtype == np.bool_
    assert not batch._document_borders.any()
    assert {str(part.dtype) for part in vars(batch).values()} == {"int32", "bool"}


def identities_of(sequences):
    ends = sequences.offsets[1:] - 1
    return group_identical(
        np.delete(sequences.tokens, ends), sequences.offsets - np.arange(len(sequences.offsets))
    )


@settings(max_examples=60, deadline=None)
@given(random_sequences(), st.integers(1, 8), st.integers(1, 2), st.booleans(), st.booleans(), st.booleans())
def test_every_scored_token_is_read_once(sequences, hosts, groups, budget, share, pack):
    """Under any policy, each scored token is read at the end of its own context."""
    rows = {"tokens_per_batch": 12 * hosts * groups * 2} if budget else {"batch_size": hosts * groups}
    identities = identities_of(sequences) if share else None
    plan = Plan(sequences.lengths(), identities, **rows, row_multiple=hosts * groups, max_shapes=3, pack=pack)
    read = {number: [] for number in range(len(sequences.requests))}
    for host in range(hosts):
        share_of_host = HostShare.contiguous(host, hosts)
        dataset = HostBatchDataset(plan, sequences, share_of_host, groups=hosts * groups)
        assert len(dataset) == len(plan)
        for batch in [dataset[number] for number in range(len(dataset))]:
            collect(batch, read)
    for number, pairs in read.items():
        tokens, start = segment(sequences, number).tolist(), sequences.score_starts[number]
        assert pairs == [(tuple(tokens[:end]), tokens[end]) for end in range(start, len(tokens))]


def collect(batch, read):
    """Collects, by request, the token that each read predicts and the tokens that it sees."""
    groups, reads = batch.read_target.shape
    per_group = len(batch.inputs) // groups
    length = batch.inputs.shape[1]
    for group in range(groups):
        for at in range(reads):
            if (request := batch.read_request[group, at]) < 0:
                continue
            row, position = divmod(batch.pick_index[group, batch.read_pick[group, at]], length)
            row += group * per_group
            begin = position - batch.positions[row, position]
            assert len(set(batch.segment_ids[row, begin : position + 1])) == 1
            seen = tuple(batch.inputs[row, begin : position + 1].tolist())
            read[int(request)].append((seen, int(batch.read_target[group, at])))


def test_batches_of_one_plan_shape_have_equal_array_shapes():
    rng = np.random.default_rng(0)
    lists = [rng.integers(1, 99, rng.integers(2, 60)).tolist() for _ in range(300)]
    sequences = sequences_of(lists, [int(rng.integers(1, len(tokens))) for tokens in lists])
    plan = Plan(sequences.lengths(), tokens_per_batch=400, row_multiple=4, max_shapes=3)
    shapes = {
        tuple(map(np.shape, vars(batch).values())) for batch in HostBatchDataset(plan, sequences, groups=4)
    }
    assert len(shapes) == len(plan.shapes)


@pytest.fixture
def planned():
    rng = np.random.default_rng(1)
    lists = [rng.integers(1, 99, length + 1).tolist() for length in (5, 2, 9, 2, 7, 1, 3)]
    sequences = sequences_of(lists)
    return {
        "indexed": IndexedBatchDataset(Plan(sequences.lengths(), batch_size=2), sequences),
        "indexed, split": IndexedBatchDataset(
            Plan(sequences.lengths(), batch_size=4), sequences, HostShare((0, 2), 4)
        ),
        "host": HostBatchDataset(Plan(sequences.lengths(), batch_size=2), sequences, groups=2),
    }


@pytest.mark.parametrize("kind", ["indexed", "indexed, split", "host"])
class TestGrainInterface:
    def test_indexes_slices_epochs(self, planned, kind):
        dataset = planned[kind]
        every = [dataset[index] for index in range(len(dataset))]
        assert pytree_diff(list(dataset), every) is None
        assert pytree_diff(list(dataset[1:]), every[1:]) is None
        assert pytree_diff(list(dataset[::-1]), every[::-1]) is None
        assert pytree_diff(dataset[-1], every[-1]) is None
        assert pytree_diff(list(dataset.repeat(2)), 2 * every) is None
        assert len(list(dataset.map(lambda batch: batch.inputs.sum()))) == len(dataset)
        assert str(dataset) == f"{type(dataset).__name__}({len(dataset)} batches)"

    def test_checkpoints(self, planned, kind):
        assert_equal_output_after_checkpoint(planned[kind])
        assert_equal_output_after_checkpoint(planned[kind].repeat(2).to_iter_dataset(grain.ReadOptions(0, 0)))

    def test_pickles_and_copies(self, planned, kind):
        dataset = planned[kind]
        for other in (cloudpickle.loads(cloudpickle.dumps(dataset)), copy.deepcopy(dataset)):
            assert pytree_diff(list(other), list(dataset)) is None

    def test_threads(self, planned, kind):
        ahead = ReadAhead(worker_count=2, worker_buffer_size=1, use_thread_prefetch=True)
        assert pytree_diff(list(ahead(planned[kind])), list(planned[kind])) is None


def test_rows_in_several_blocks_are_joined(planned):
    lists = [[number, number] for number in range(1, 8)]
    sequences = sequences_of(lists)
    dataset = IndexedBatchDataset(Plan(sequences.lengths(), batch_size=8), sequences, HostShare((0, 2), 4))
    assert dataset[0].inputs.ravel().tolist() == [1, 2, 5, 6]


def test_large_datasets_pickle_small():
    count = 400_000
    tokens = np.ones(4 * count, np.int32)
    offsets = np.arange(0, len(tokens) + 1, 4)
    sequences = Sequences(tokens, offsets, np.ones(count, np.int32), np.arange(count))
    dataset = HostBatchDataset(Plan(sequences.lengths(), batch_size=64), sequences)
    stored = cloudpickle.dumps(dataset)
    assert len(stored) < 5_000
    other = cloudpickle.loads(stored)
    assert isinstance(other.sequences.tokens.base, np.memmap)
    assert pytree_diff(other[5], dataset[5]) is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"tokens": np.ones(5, np.int64)},
            TypeError,
            "tokens must be a one-dimensional NumPy array of int32",
        ),
        ({"requests": [0, 1]}, TypeError, "requests must be a one-dimensional NumPy array of int64"),
        ({"offsets": np.array([0, 2])}, ValueError, "offsets has 2 elements; the plan has 2 segments"),
        (
            {"offsets": np.array([0, 2, 4])},
            ValueError,
            r"segment 0 has 2 tokens in offsets, but 2 \+ 1 in the plan",
        ),
        ({"score_starts": np.ones(3, np.int32)}, ValueError, "score_starts has 3 elements"),
        ({"requests": np.array([0, 2**31 - 1])}, ValueError, "requests range from 0 to 2147483647"),
    ],
)
def test_sequences_of_another_plan_are_refused(change, error, message):
    sequences = sequences_of([[1, 2, 3], [4, 5]])
    plan = Plan(sequences.lengths(), batch_size=2)
    with pytest.raises(error, match=message):
        IndexedBatchDataset(plan, sequences._replace(**change))
    with pytest.raises(error, match=message):
        HostBatchDataset(plan, sequences._replace(**change))


def test_plans_that_cannot_be_distributed():
    sequences = sequences_of([[1, 2, 3], [1, 2, 4]])
    shared = Plan(sequences.lengths(), identities_of(sequences), batch_size=2)
    with pytest.raises(ValueError, match="plan shares or packs rows"):
        IndexedBatchDataset(shared, sequences)
    with pytest.raises(ValueError, match=r"batches of 2 rows cannot be split into 3 blocks.*row_multiple=3"):
        HostBatchDataset(shared, sequences, HostShare.contiguous(0, 3))
    with pytest.raises(ValueError, match="groups is 1; it must be a multiple of 2"):
        HostBatchDataset(shared, sequences, HostShare.contiguous(0, 2), groups=1)


class TestEvaluationDataset:
    @pytest.mark.parametrize("idx", [-1, 2**31 - 1, 2**64])
    def test_numbers_beyond_int32_are_refused(self, tmp_path, idx):
        requests = [{"idx": idx, "prefix": "ab", "text": "cd"}]
        with pytest.raises(ValueError, match=f"idx of request 0 is {idx}; it must be from 0 to 2147483646"):
            evaluation_dataset(requests, write_tokenizer(tmp_path), batch_size=2)

    def test_results_map_back_to_requests(self, tmp_path):
        tokenizer = write_tokenizer(tmp_path)
        requests = [
            {"idx": 10, "prefix": "ab", "text": "cd"},
            {"idx": 20, "prefix": "ab", "text": "ce"},
            {"idx": 30, "prefix": "", "text": "xyz"},
        ]
        dataset = evaluation_dataset(requests, tokenizer, batch_size=2)
        assert dataset.plan.statistics["rows"] == 2
        read = {10: [], 20: [], 30: []}
        for batch in dataset:
            assert isinstance(batch, HostBatch)
            collect(batch, read)
        a, b, c, d, e, x, y, z = (ord(letter) for letter in "abcdexyz")
        assert read[10] == [((a, b), c), ((a, b, c), d)]
        assert read[20] == [((a, b), c), ((a, b, c), e)]
        assert read[30] == [((BOS,), x), ((BOS, x), y), ((BOS, x, y), z)]

    def test_hosts_together_hold_the_rows_of_one_host(self, tmp_path):
        tokenizer = write_tokenizer(tmp_path)
        requests = [
            {"prefix": "a" * (1 + number % 7), "text": "b" * (1 + number % 3)} for number in range(50)
        ]
        whole = evaluation_dataset(requests, tokenizer, tokens_per_batch=40, row_multiple=4)
        parts = [
            evaluation_dataset(
                requests, tokenizer, tokens_per_batch=40, row_multiple=4, host_index=host, host_count=2
            )
            for host in range(2)
        ]
        assert {part.plan.fingerprint for part in parts} == {whole.plan.fingerprint}
        for number in range(len(whole)):
            together = jax.tree.map(lambda *arrays: np.concatenate(arrays), *(part[number] for part in parts))
            assert pytree_diff(together, whole[number]) is None

    def test_rolling_requests(self, tmp_path):
        from lm_eval.api.instance import Instance

        texts = ["abcdefg", "xy"]
        requests = [
            Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0) for text in texts
        ]
        dataset = evaluation_dataset(requests, write_tokenizer(tmp_path), max_length=3, batch_size=2)
        read = {0: [], 1: []}
        for batch in dataset:
            collect(batch, read)
        scored = {number: sorted(target for _, target in pairs) for number, pairs in read.items()}
        assert scored == {number: sorted(text.encode()) for number, text in enumerate(texts)}

    def test_any_source_is_accepted(self, tmp_path):
        tokenizer = write_tokenizer(tmp_path)
        requests = [{"prefix": "a", "text": "b" * count} for count in (1, 2, 3)]
        expected = list(evaluation_dataset(requests, tokenizer, batch_size=2))
        for source in (Counting(requests), grain.MapDataset.source(requests), tuple(requests)):
            assert pytree_diff(list(evaluation_dataset(source, tokenizer, batch_size=2)), expected) is None
        some = grain.MapDataset.source(requests).filter(lambda request: len(request["text"]) != 2)
        read = {0: [], 2: []}
        for batch in evaluation_dataset(some, tokenizer, batch_size=2):
            collect(batch, read)
        assert [len(read[0]), len(read[2])] == [1, 3]

    @pytest.mark.parametrize(
        ("requests", "options", "error", "message"),
        [
            ([], {}, ValueError, "requests is empty; give at least one request"),
            ([{"idx": 0}], {}, KeyError, "request 0 has no 'prefix', only .*'idx'"),
            ([{"prefix": "a"}], {}, KeyError, "request 0 has no 'text'"),
            ([{"prefix": "a", "text": 5}], {}, TypeError, "text of request 0 is an int"),
            ([{"prefix": "a", "text": "b", "idx": "c"}], {}, TypeError, "idx of request 0 is a str"),
            (["text"], {}, TypeError, "is a str; it must be an lm_eval Instance, or a dictionary with"),
            ([{"prefix": "a", "text": ""}], {}, ValueError, "request 0"),
            ([{"prefix": "a", "text": "b"}], {"batch_size": 3, "host_count": 2}, ValueError, "row_multiple"),
            (
                [{"prefix": "a", "text": "b"}],
                {"host_index": 2, "host_count": 2},
                IndexError,
                "host index is 2",
            ),
            ([{"prefix": "a", "text": "b"}], {"host_count": 0}, ValueError, "host count is 0"),
            ([{"prefix": "a", "text": "b"}], {"row_multiple": 0}, ValueError, "row_multiple is 0"),
            (
                [{"prefix": "a", "text": "b"}],
                {"row_multiple": 3, "host_count": 2},
                ValueError,
                "row_multiple is 3; it must be",
            ),
            ([{"prefix": "a", "text": "b"}], {"shapes": 3}, TypeError, "shapes"),
        ],
    )
    def test_bad_input(self, tmp_path, requests, options, error, message):
        with pytest.raises(error, match=message):
            evaluation_dataset(requests, write_tokenizer(tmp_path), **options)
