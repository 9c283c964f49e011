"""Infinite and single-use requests are rejected everywhere, and so are numbers that are not whole."""

import grain
import jax
import numpy as np
import pytest

from small_model import prefix_model
from small_tokenizer import write_tokenizer
from windrow import BatchPolicy, LanguageModel, evaluation_dataset, generate, score
from windrow.admission import admit_count, admit_whole, read_whole
from windrow.lmeval_pipeline import lmeval_preprocessing_pipeline

PAIR = {"prefix": "a", "text": "b"}


def loader(requests):
    sampler = grain.samplers.IndexSampler(len(requests), grain.sharding.NoSharding(), num_epochs=1)
    return grain.DataLoader(data_source=requests, sampler=sampler)


def evaluate(requests, folder):
    return len(evaluation_dataset(requests, write_tokenizer(folder), batch_size=2).plan.rows)


def pipeline(requests, folder):
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    options = {"tokenizer_path": write_tokenizer(folder), "worker_count": 0}
    return lmeval_preprocessing_pipeline(0, 1, mesh, requests, 2, **options).dataset_size


def scored(requests, folder):
    return len(score(prefix_model(258), write_tokenizer(folder), requests).log_likelihoods)


def generated(requests, folder):
    made = generate(prefix_model(258), write_tokenizer(folder), requests, max_new_tokens=1, end_tokens=[])
    return len(made.texts)


WAYS = [
    (evaluate, "requests", PAIR),
    (pipeline, "dataset", PAIR),
    (scored, "requests", ("a", "b")),
    (generated, "prompts", "a"),
]


@pytest.mark.parametrize(("run", "argument", "request_"), WAYS)
def test_infinite_and_single_use_sources(tmp_path, run, argument, request_):
    source = grain.MapDataset.source([request_] * 4)
    assert run(source, tmp_path) == 4
    assert run(source.repeat(2), tmp_path) == 8
    for endless in (source.repeat(), source.repeat()[::3], source.repeat().shuffle(seed=1).map(lambda x: x)):
        with pytest.raises(ValueError, match=rf"^{argument} is infinite, .*remove .repeat\(\)"):
            run(endless, tmp_path)
    one_way = {
        "generator": (request_ for _ in range(4)),
        "DataLoader": loader([request_] * 4),
        "set": {1, 2},
        "dict": {"a": request_},
        "PrefetchIterDataset": source.to_iter_dataset(),
    }
    for name, given in one_way.items():
        with pytest.raises(
            TypeError, match=f"^{argument} must be a sequence with a length and indexing, not a {name}"
        ):
            run(given, tmp_path)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "8", None, np.float32(3), np.bool_(True)])
def test_values_that_are_not_whole_numbers(value):
    with pytest.raises(ValueError, match=r"^size must be a whole number of at least 1, or None, not "):
        admit_whole("size", value, also=", or None")


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_whole_numbers(value):
    assert type(admit_whole("size", value)) is type(admit_count("size", value)) is int
    assert BatchPolicy(batch_size=value).batch_size == 3
    assert LanguageModel({}, lambda params, tokens, positions, segment_ids: tokens, value).max_length == 3


@pytest.mark.parametrize(("value", "number"), [("8", 8), (" 8 ", 8), (8, 8), (None, None), ("None", None)])
def test_whole_numbers_on_a_command_line(value, number):
    assert read_whole("size", value) == number


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "many", "", True])
def test_text_that_is_not_a_whole_number(value):
    with pytest.raises(ValueError, match=r"^size must be a whole number of at least 1, not "):
        read_whole("size", value)


def test_dataset_counts_distinguish_type_from_range_errors():
    with pytest.raises(TypeError, match=r"^size must be a whole number, not float"):
        admit_count("size", 2.0)
    with pytest.raises(ValueError, match=r"^size is 0; it must be at least 1"):
        admit_count("size", 0)
