"""lm_eval's tables for whole suites, compared with those of a naive evaluator run by lm_eval.

The evaluator shares only the model's forward pass with the package, and that has its
own tests. lm_eval's base class splits and encodes each request with the ``tokenizers``
package. Requests run in their original order, each batch padded to its longest request,
with a log-softmax over the whole vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from lm_eval import simple_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from windrow.harness import JaxLM
from windrow.models import load

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("optimized")]

ROWS = 32


class PlainEvaluator(TemplateLM):
    """Scores the requests in their original order."""

    def __init__(self, directory, max_length):
        super().__init__()
        self.package = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.model, self.max_length = load(str(directory)), max_length
        self.logprobs = jax.jit(self._logprobs)

    def _logprobs(self, params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        return jax.nn.log_softmax(self.model.apply(params, tokens, positions, jnp.ones_like(tokens)))

    @property
    def eot_token_id(self):
        return self.package.token_to_id("</s>")

    @property
    def prefix_token_id(self):
        return self.package.token_to_id("<s>")

    def tok_encode(self, string, add_special_tokens=None, **_):
        if add_special_tokens is None:
            add_special_tokens = not string.startswith("<s>")
        return self.package.encode(string, add_special_tokens=add_special_tokens).ids

    def _loglikelihood_tokens(self, requests, **_):
        results = []
        for begin in range(0, len(requests), ROWS):
            results += self._batch(
                [(context, target) for _, context, target in requests[begin : begin + ROWS]]
            )
        return results

    def _batch(self, pairs):
        rows = [(context + target)[-(self.max_length + 1) :] for context, target in pairs]
        longest = -(-max(map(len, rows)) // 32) * 32
        inputs = np.zeros((ROWS, longest), np.int32)
        for number, row in enumerate(rows):
            inputs[number, : len(row) - 1] = row[:-1]
        logprobs = np.asarray(self.logprobs(self.model.params, inputs))
        for number, (row, (_, target)) in enumerate(zip(rows, pairs, strict=True)):
            scored = logprobs[number, len(row) - 1 - len(target) : len(row) - 1]
            total = scored[np.arange(len(target)), target].astype(np.float64).sum()
            yield float(total), bool((scored.argmax(-1) == target).all())

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        windows, whose = [], []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1):
                windows.append((None, *make_disjoint_window(window)))
                whose.append(number)
        totals = [total for total, _ in self._loglikelihood_tokens(windows)]
        return np.bincount(whose, totals, len(requests)).tolist()

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


def table(lm, evals):
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    found = simple_evaluate(
        lm, tasks=["local_suite", "local_wikitext2"], task_manager=tasks, limit=100, bootstrap_iters=0
    )
    return {
        (task, metric): value
        for task, metrics in found["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, float)
    }


@pytest.mark.filterwarnings("ignore")
def test_tables_of_the_suite_and_wikitext(evals):
    directory = evals / "parity" / "tiny-llama"
    expected = table(PlainEvaluator(directory, 256), evals)
    found = table(JaxLM(pretrained=str(directory)), evals)
    assert len(expected) == 15
    assert found == pytest.approx(expected, rel=1e-5)
    accuracies = [name for name in expected if "acc" in name[1]]
    assert len(accuracies) == 11
    assert {name: found[name] for name in accuracies} == {name: expected[name] for name in accuracies}
