"""The models, compared with recordings of lm_eval's Hugging Face backend, request by request.

Requests are tokenized here by the rules of that backend with the ``tokenizers``
package, and rows are plain batches. Of windrow, only the models are used.
"""

import json
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer

from exhaustive import exhaustive
from windrow.models import load

pytestmark = pytest.mark.usefixtures("optimized")

PREFIXES = {"llama": "<s>", "gpt2": "<|endoftext|>", "mamba": "<s>"}
AREA = 2048
PICKED = 256


@dataclass(eq=False)
class Segment:
    """The model's input, the targets from ``start`` on, and the request that gets their sum."""

    tokens: list[int]
    targets: list[int]
    request: int
    logprobs: list[float] = field(default_factory=list)
    greedy: list[bool] = field(default_factory=list)

    @property
    def start(self):
        return len(self.tokens) - len(self.targets)


class Requests:
    """The recorded requests of one model, and their tokenization."""

    def __init__(self, evals, name):
        self.directory = evals / "parity" / f"tiny-{name}"
        self.model = load(self.directory)
        self.tokenizer = Tokenizer.from_file(str(self.directory / "tokenizer.json"))
        self.prefix = PREFIXES[name]
        self.prefix_id = self.tokenizer.token_to_id(self.prefix)
        lines = (evals / "parity" / f"{name}.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
        records = [json.loads(line) for line in lines]
        self.pairs = [each for each in records if each["type"] == "loglikelihood"]
        self.rolling = [each for each in records if each["type"] == "loglikelihood_rolling"]
        self.continued = _continued_further([self._tokens(*each["args"]) for each in self.pairs])

    def _encode(self, text, special=True):
        special = special and not text.startswith(self.prefix)
        return self.tokenizer.encode(text, add_special_tokens=special).ids

    def _tokens(self, context, continuation):
        if not context:
            ids = self._encode(continuation, special=False)
            return ([self.prefix_id], ids) if ids[0] != self.prefix_id else (ids[:1], ids[1:])
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        ids = self._encode(stripped)
        return ids, self._encode(stripped + continuation)[len(ids) :]

    def pair_segments(self, every=1, longest=None):
        """All pairs, or the first twenty and then one in ``every``, up to a length."""
        limit = self.model.max_length
        for number, record in enumerate(self.pairs):
            if number in self.continued or (number % every and number > 20):
                continue
            context, continuation = self._tokens(*record["args"])
            tokens = (context + continuation)[-(limit + 1) :][:-1]
            if len(tokens) <= (longest or limit):
                yield Segment(tokens, continuation, number)

    def rolling_segments(self):
        for number, record in enumerate(self.rolling):
            ids = self._encode(record["args"][0])
            windows = get_rolling_token_windows(ids, self.prefix_id, self.model.max_length, context_len=1)
            for context, continuation in map(make_disjoint_window, windows):
                yield Segment((context + continuation)[:-1], continuation, number)


def _continued_further(pairs):
    """Requests whose input equals that of a request with a longer continuation.

    For these, the recorded backend reads the log-probabilities of the longer
    continuation's first tokens, which is not a property of the model.
    """
    longest = {}
    for context, continuation in pairs:
        whole = tuple(context + continuation[:-1])
        longest[whole] = max(longest.get(whole, 0), len(continuation))
    return {
        number
        for number, (context, continuation) in enumerate(pairs)
        if len(continuation) < longest[tuple(context + continuation[:-1])]
    }


@pytest.fixture(
    scope="module",
    params=["llama", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("gpt2", "mamba"))],
)
def requests(request, evals):
    return Requests(evals, request.param)


def batches(segments, lengths, together=False):
    """Rows of the shortest sufficient length, in batches of ``AREA`` tokens; packed if ``together``."""
    rows = {length: [] for length in lengths}
    for segment in sorted(segments, key=lambda each: -len(each.tokens)):
        length = lengths[-1] if together else next(n for n in lengths if len(segment.tokens) <= n)
        for row in rows[length] if together else ():
            if sum(len(each.tokens) for each in row) + len(segment.tokens) <= length:
                row.append(segment)
                break
        else:
            rows[length].append([segment])
    for length, all_rows in rows.items():
        count = AREA // length
        for at in range(0, len(all_rows), count):
            yield fill(all_rows[at : at + count], count, length)


def fill(rows, count, length):
    """The arrays of a batch, and the row, column, target and segment of each scored position."""
    tokens, positions, segment_ids = np.zeros((3, count, length), np.int32)
    scored = []
    for row, segments in enumerate(rows):
        at = 0
        for number, segment in enumerate(segments, 1):
            here = slice(at, at + len(segment.tokens))
            tokens[row, here], segment_ids[row, here] = segment.tokens, number
            positions[row, here] = np.arange(len(segment.tokens))
            scored += [
                (row, at + segment.start + nth, target, segment) for nth, target in enumerate(segment.targets)
            ]
            at = here.stop
    return (tokens, positions, segment_ids), scored


@jax.jit
def score(logits, targets):
    scored = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return scored - jax.nn.logsumexp(logits, axis=-1), scored == jnp.max(logits, axis=-1)


def give(scored, logprobs, greedy):
    for (*_, segment), logprob, hit in zip(scored, np.asarray(logprobs), np.asarray(greedy), strict=False):
        segment.logprobs.append(float(logprob))
        segment.greedy.append(bool(hit))


class FromHidden:
    """Scores a batch from ``hidden[rows, length, width]`` and ``head``, some positions at a time."""

    def __init__(self, model):
        self.head = jax.jit(lambda params, picked, targets: score(model.head(params, picked), targets))

    def __call__(self, params, hidden, scored):
        hidden = np.asarray(hidden)
        for at in range(0, len(scored), PICKED):
            part = scored[at : at + PICKED]
            row, column, target = np.array([each[:3] for each in part]).T
            pad = (0, PICKED - len(part))
            picked = np.pad(hidden[row, column], (pad, (0, 0)))
            give(part, *self.head(params, picked, np.pad(target, pad).astype(np.int32)))


def check(segments, records):
    """Checks that every sum is within 1e-3 + 1e-5 times the recorded one, and every greedy flag equal."""
    sums, greedy = {}, {}
    for segment in segments:
        assert len(segment.logprobs) == len(segment.targets)
        sums[segment.request] = sums.get(segment.request, 0.0) + np.sum(segment.logprobs)
        greedy[segment.request] = all(segment.greedy)
    assert sums
    for number, value in sums.items():
        result = records[number]["result"]
        expected, flag = result if isinstance(result, list) else (result, greedy[number])
        assert abs(value - expected) <= 1e-3 + 1e-5 * abs(expected), records[number]["args"]
        assert greedy[number] == flag, records[number]["args"]


def test_few_requests_are_left_out(requests):
    assert len(requests.continued) <= 4 < 1400 < len(requests.pairs)


@pytest.mark.exhaustive
def test_apply(requests):
    """Logits of all positions from the whole model in one call, for some of the requests."""
    model, segments = requests.model, list(requests.pair_segments(every=100, longest=256))

    @jax.jit
    def run(params, tokens, positions, segment_ids, row, column, targets):
        return score(model.apply(params, tokens, positions, segment_ids)[row, column], targets)

    for batch, scored in batches(segments, [256]):
        row, column, target = np.array([each[:3] for each in scored]).T.astype(np.int32)
        places = (np.pad(each, (0, AREA - len(scored))) for each in (row, column, target))
        give(scored, *run(model.params, *batch, *places))
    check(segments, requests.pairs)


@pytest.mark.parametrize(("rows", "every"), [exhaustive("apart", 4), exhaustive("packed", 1), ("packed", 10)])
def test_hidden_and_head(requests, rows, every):
    """All requests packed and some unpacked, or only some packed."""
    model, hidden, finish = requests.model, jax.jit(requests.model.hidden), FromHidden(requests.model)
    longest = min(model.max_length, 1024)
    lengths = sorted({64, 256, longest}) if rows == "apart" else [longest]
    segments = list(requests.pair_segments(every=every))
    for batch, scored in batches(segments, lengths, together=rows == "packed"):
        finish(model.params, hidden(model.params, *batch), scored)
    check(segments, requests.pairs)


@pytest.mark.exhaustive
def test_rolling(requests):
    model, hidden, finish = requests.model, jax.jit(requests.model.hidden), FromHidden(requests.model)
    segments = list(requests.rolling_segments())
    for batch, scored in batches(segments, [model.max_length]):
        finish(model.params, hidden(model.params, *batch), scored)
    check(segments, requests.rolling)


@pytest.mark.parametrize("size", [exhaustive(1), 7, exhaustive(64), exhaustive(256)])
def test_steps(requests, size):
    """In steps of ``size`` tokens, for some of the requests of up to 256 tokens."""
    model, finish = requests.model, FromHidden(requests.model)
    step = jax.jit(model.step, donate_argnums=1)
    segments = list(requests.pair_segments(every=4 if size == 64 else 100, longest=256))
    for batch, scored in batches(segments, [64, 256] if size == 64 else [256]):
        count = -(-max(each[1] + 1 for each in scored) // size)
        rows, length = batch[0].shape
        padded = [np.pad(each, ((0, 0), (0, -length % size))) for each in batch]
        state, parts = model.init_state(model.params, rows), []
        for at in range(0, count * size, size):
            state, part = step(model.params, state, *(each[:, at : at + size] for each in padded))
            parts.append(np.asarray(part))
        finish(model.params, np.concatenate(parts, axis=1), scored)
    check(segments, requests.pairs)


@pytest.mark.exhaustive
def test_unbounded_documents_by_chunks(evals):
    """A recurrent model's score of a text beyond any limit does not depend on the chunks."""
    requests = Requests(evals, "mamba")
    model, finish = requests.model, FromHidden(requests.model)
    longest = max((requests._encode(each["args"][0]) for each in requests.rolling), key=len)
    tokens = [requests.prefix_id, *longest]
    step, results = jax.jit(model.step), []
    for size in (64, len(tokens) - 1):
        segment = Segment(tokens[:-1], tokens[1:], 0)
        batch, scored = fill([[segment]], 1, -(-len(segment.tokens) // size) * size)
        state, parts = model.init_state(model.params, 1), []
        for at in range(0, batch[0].shape[1], size):
            state, part = step(model.params, state, *(each[:, at : at + size] for each in batch))
            parts.append(np.asarray(part))
        finish(model.params, np.concatenate(parts, axis=1), scored)
        results.append(segment.logprobs)
    assert len(tokens) > 2 * requests.model.max_length
    np.testing.assert_allclose(*results, rtol=0, atol=1e-4)


@pytest.mark.exhaustive
def test_a_mesh_of_data_and_tensor(requests):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    model = load(requests.directory, mesh=mesh)
    by_row = NamedSharding(Mesh(mesh.devices, mesh.axis_names), PartitionSpec("data"))
    hidden, finish = jax.jit(model.hidden), FromHidden(model)
    segments = list(requests.pair_segments(every=40, longest=256))
    for batch, scored in batches(segments, [256]):
        placed = [jax.device_put(each, by_row) for each in batch]
        finish(model.params, hidden(model.params, *placed), scored)
    check(segments, requests.pairs)
