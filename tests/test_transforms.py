"""Parsing requests into texts, and completing elements to all fields of a batch."""

import grain
import numpy as np
import pytest
from lm_eval.api.instance import Instance

from trees import pytree_diff
from windrow.datasets import empty_llm_indexed_sample
from windrow.transforms import CompleteLLMIndexedBatch, ParseLMEval


def request(*arguments, kind="loglikelihood"):
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling"])
def test_context_and_continuation_become_prefix_and_text(kind):
    parsed = ParseLMEval().map({"idx": 7, "req": request("Prefix ", " Main", kind=kind)})
    assert parsed == {"idx": 7, "prefix": "Prefix ", "text": " Main"}


def test_single_text_has_an_empty_prefix():
    parsed = ParseLMEval().map({"idx": 0, "req": request("Whole", kind="loglikelihood_rolling")})
    assert parsed == {"idx": 0, "prefix": "", "text": "Whole"}


def test_arguments_that_are_not_a_tuple_are_one_text():
    lone = Instance(request_type="loglikelihood_rolling", doc={}, arguments="Whole", idx=0)
    assert ParseLMEval().map({"idx": 0, "req": lone})["text"] == "Whole"


def test_request_may_have_another_name_and_other_keys_are_kept():
    parsed = ParseLMEval("instance").map({"idx": 1, "instance": request("a", "b"), "task": "x"})
    assert parsed == {"idx": 1, "prefix": "a", "text": "b", "task": "x"}
    assert ParseLMEval().request_name == "req"


def test_arguments_after_the_second_are_ignored():
    parsed = ParseLMEval().map({"idx": 3, "req": request("a", "b", {"image": "c"})})
    assert parsed == {"idx": 3, "prefix": "a", "text": "b"}


def test_element_without_an_index():
    assert ParseLMEval().map({"req": request("a", "b")}) == {"prefix": "a", "text": "b"}


def test_parse_lm_eval_is_a_grain_transform():
    source = grain.MapDataset.source([{"idx": 0, "req": request("a", "b")}])
    assert list(source.map(ParseLMEval())) == list(source.apply([ParseLMEval()]))


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ({"req": request(5, "b")}, TypeError, "a request has an int among its arguments, 5"),
        ({"idx": 3}, KeyError, "no 'req'"),
        ({"idx": 3, "req": "text"}, TypeError, "request 3 is a str; it must be an lm_eval Instance"),
        (
            {"idx": 3, "req": request("a", {}, kind="generate_until")},
            ValueError,
            "request 3 .*'generate_until'.*JaxLM",
        ),
        ({"idx": 3, "req": request()}, ValueError, "request 3 has 0 arguments"),
        ({"idx": 3, "req": request("a", 5)}, TypeError, "request 3 has an int among its arguments, 5"),
    ],
)
def test_bad_requests(item, error, message):
    with pytest.raises(error, match=message):
        ParseLMEval().map(item)


def test_completing_many_rows():
    complete = CompleteLLMIndexedBatch.map(
        {
            "inputs": np.array([[1, 2, 3], [4, 5, 0]], np.int32),
            "targets": np.array([[2, 3, 9], [5, 9, 0]], np.int32),
            "inputs_segmentation": np.array([[1, 1, 1], [1, 1, 0]], np.int32),
            "idx": np.array([7, 2], np.int32),
        }
    )
    positions = np.array([[0, 1, 2], [0, 1, 2]], np.int64)
    expected = {
        "inputs": np.array([[1, 2, 3], [4, 5, 0]], np.int32),
        "targets": np.array([[2, 3, 9], [5, 9, 0]], np.int32),
        "inputs_segmentation": np.array([[1, 1, 1], [1, 1, 0]], np.int32),
        "inputs_position": positions,
        "targets_position": positions,
        "document_idx": np.array([8, 3], np.int32),
        "sequence_idx": np.zeros(2, np.int32),
        "_document_borders": np.zeros((2, 3), np.bool_),
    }
    assert pytree_diff(complete, expected) is None


def test_existing_fields_are_kept():
    own = np.array([[5, 6]])
    complete = CompleteLLMIndexedBatch().map(
        {"inputs": own, "targets": own, "idx": np.array([0]), "inputs_position": own}
    )
    assert complete["inputs_position"] is own


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32])
def test_document_numbers_are_int32_and_positions_int64(dtype):
    tokens = np.array([[1, 2]], dtype)
    complete = CompleteLLMIndexedBatch.map({"inputs": tokens, "targets": tokens, "idx": np.array(126, dtype)})
    assert pytree_diff(complete["document_idx"], np.array([127], np.int32)) is None
    assert pytree_diff(complete["sequence_idx"], np.array([0], np.int32)) is None
    assert pytree_diff(complete["inputs_position"], np.array([[0, 1]], np.int64)) is None
    assert pytree_diff(complete["targets_position"], np.array([[0, 1]], np.int64)) is None
    assert complete["inputs"] is tokens


def test_completing_an_element_without_an_index():
    padding = empty_llm_indexed_sample()
    assert pytree_diff(CompleteLLMIndexedBatch.map(padding), padding) is None
    tokens = np.array([[1, 2]])
    complete = CompleteLLMIndexedBatch.map({"inputs": tokens, "targets": tokens})
    assert sorted(complete) == [
        "_document_borders",
        "inputs",
        "inputs_position",
        "targets",
        "targets_position",
    ]


@pytest.mark.parametrize(
    ("idx", "error", "message"),
    [
        (0.5, TypeError, "idx has dtype float64; it must be an integer array"),
        (2**31 - 1, ValueError, "idx ranges from 2147483647 to 2147483647"),
        (-2, ValueError, "idx ranges from -2 to -2"),
    ],
)
def test_indexes_that_are_not_document_numbers(idx, error, message):
    tokens = np.array([[1, 2]])
    with pytest.raises(error, match=message):
        CompleteLLMIndexedBatch.map({"inputs": tokens, "targets": tokens, "idx": np.array(idx)})


@pytest.mark.parametrize("missing", ["inputs", "targets"])
def test_missing_field_is_named(missing):
    item = {"inputs": np.ones((1, 2)), "targets": np.ones((1, 2)), "idx": np.array(0)}
    del item[missing]
    with pytest.raises(KeyError, match=f"no '{missing}'.*needs 'inputs' and 'targets'"):
        CompleteLLMIndexedBatch.map(item)


@pytest.mark.parametrize(("shape", "idx"), [((2,), 0), ((1, 2, 3), 0), ((2, 3), 0), ((2, 3), [0, 1, 2])])
def test_mismatched_tokens_and_indexes_are_refused(shape, idx):
    with pytest.raises(ValueError, match=r"inputs has shape .* must be \[rows, length\] and \[rows\]"):
        CompleteLLMIndexedBatch.map(
            {"inputs": np.ones(shape), "targets": np.ones(shape), "idx": np.array(idx)}
        )
