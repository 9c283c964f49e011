"""Running rows in chunks does not change results, for all chunk lengths, padded lengths and caches."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import windrow
from bundled_models import NAMES, ONE_OF_EACH, VOCAB, bundled
from cached_model import cached_model
from made_segments import as_segments
from windrow import BatchPolicy, LanguageModel
from windrow.scoring import Clock, Scorer
from windrow.sharding import RowSharding

pytestmark = pytest.mark.exhaustive

CHUNKS = [7, 16, 60, 64, 100]
MOST = 60
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Letters:
    """61 letters, one token each."""

    encode = staticmethod(lambda text: [(ord(letter) - ord("A")) % VOCAB for letter in text])
    decode = staticmethod(lambda tokens: "".join(chr(ord("A") + token) for token in tokens))


def recurrent_example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        made = import_module("recurrent")
    functions = {"init_state": made.init_state, "step": made.step}
    return LanguageModel(made.init(jax.random.key(0)), made.apply, **functions)


OTHERS = {
    "cache of a given length": lambda: cached_model(VOCAB, MOST),
    "cache of a fixed length": lambda: cached_model(VOCAB, MOST, asks_length=False),
    "the recurrent example": recurrent_example,
}


@pytest.fixture(scope="module", params=[*OTHERS, *ONE_OF_EACH])
def model(request, tmp_path_factory):
    if request.param in OTHERS:
        return OTHERS[request.param]()
    return bundled(request.param, tmp_path_factory.mktemp("bundled"), max_length=MOST)


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("data",))


def scores(model, policy, chunk_length=None):
    """Scores of inputs of various lengths, including ``max_length``."""
    rng = np.random.default_rng(0)
    lengths = [MOST + 1, MOST + 1, MOST, 58, 50, 33, 32, 9, 2]
    segments = as_segments([rng.integers(0, VOCAB, length) for length in lengths], [1] * len(lengths))
    scorer = Scorer(model, RowSharding.over(one_device()), Clock(), chunk_length, policy)
    return scorer.run(scorer.plan(policy, segments), segments)


@pytest.mark.parametrize("multiple", [1, 64])
def test_scores(model, multiple):
    policy = BatchPolicy(batch_size=4, max_shapes=2, padding_multiple=multiple, share="equal")
    whole = scores(model, policy)
    for chunk_length in CHUNKS:
        chunked = scores(model, policy, chunk_length)
        np.testing.assert_allclose(chunked.token_logprobs, whole.token_logprobs, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(chunked.token_greedy, whole.token_greedy)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONE_OF_EACH])
def test_scores_of_the_other_model_types(name, tmp_path):
    policy = BatchPolicy(batch_size=4, max_shapes=1, padding_multiple=64, share="equal")
    model = bundled(name, tmp_path, max_length=MOST)
    whole = scores(model, policy)
    for chunk_length in (7, 64):
        chunked = scores(model, policy, chunk_length)
        np.testing.assert_allclose(chunked.token_logprobs, whole.token_logprobs, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_generated_texts(model):
    rng = np.random.default_rng(1)
    lengths, limits = [52, 40, 33, 20, 1, 59], [8, 20, 3, 5, 30, 1]
    prompts = [Letters.decode(rng.integers(0, VOCAB, length)) for length in lengths]

    def texts(model, multiple=1, chunk_length=None):
        policy = BatchPolicy(batch_size=4, padding_multiple=multiple)
        made = windrow.generate(
            model, Letters(), prompts, max_new_tokens=limits, end_tokens=(), rules=None,
            policy=policy, sharding=one_device(), chunk_length=chunk_length,
        )  # fmt: skip
        return made.texts

    read_anew = texts(replace(model, init_state=None, step=None))
    assert [len(text) for text in read_anew] == limits
    for chunk_length in [None, *CHUNKS]:
        assert texts(model, chunk_length=chunk_length) == read_anew
    assert texts(model, 64) == texts(model, 64, 16) == read_anew
