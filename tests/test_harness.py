"""JaxLM run by lm_eval, and compared with recorded results of lm_eval's own backend."""

import json

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from byte_lm import byte_lm, requests_of
from exhaustive import exhaustive
from small_model import naive_logprobs
from windrow.harness import JaxLM
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import load_tokenizer, loglikelihood_segments

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")


def test_loglikelihood_matches_recomputation():
    lm = byte_lm()
    pairs = [
        ("The sky is", " blue"),
        ("The sky is", " b"),
        ("The sky is ", "grey"),
        ("", "x"),
        ("The sky is", " g"),
    ]
    results = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    for (context, continuation), (total, greedy) in zip(pairs, results, strict=True):
        stripped = context.rstrip()
        sequence = list((context + continuation).encode())
        scored = len(sequence) - len(stripped)
        sequence = [0, *sequence] if not context else sequence
        expected = naive_logprobs(lm.model.params, sequence)[-scored:]
        assert total == pytest.approx(sum(p for p, _ in expected), abs=1e-4)
        assert greedy == all(flag for _, flag in expected)


def test_equal_inputs_with_different_splits_score_as_in_lm_eval():
    """HFLM reads the shorter continuation's log-probabilities from the start of the longer one's."""
    lm = byte_lm()
    shorter, longer = lm.loglikelihood(requests_of("loglikelihood", ("abc", "xyz"), ("ab", "cxyz")))
    sequence = list(b"abcxyz")
    assert longer[0] == pytest.approx(
        sum(p for p, _ in naive_logprobs(lm.model.params, sequence)[-4:]), abs=1e-4
    )
    shifted = sum(
        naive_logprobs(lm.model.params, [*sequence[: 2 + place], target])[-1][0]
        for place, target in enumerate(b"xyz")
    )
    assert shorter[0] == pytest.approx(shifted, abs=1e-4)
    alone = lm.loglikelihood(requests_of("loglikelihood", ("abc", "xyz")))
    assert alone[0][0] == pytest.approx(
        sum(p for p, _ in naive_logprobs(lm.model.params, sequence)[-3:]), abs=1e-4
    )
    assert shorter[1] == alone[0][1]
    assert lm.report()["segments"] == 3


def test_requests_are_grouped_by_their_inputs_before_truncation():
    lm = byte_lm(max_length=4)
    pairs = [("1abc", "xyz"), ("2ab", "cxyz")]  # equal only in their last five bytes
    together = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    apart = [lm.loglikelihood(requests_of("loglikelihood", pair))[0] for pair in pairs]
    assert np.allclose([total for total, _ in together], [total for total, _ in apart], atol=1e-4)


def test_rolling_covers_every_token_once():
    lm = byte_lm()
    texts = [
        "short",
        "a much longer text that has to be cut into windows of sixty-four bytes each, twice or more" * 2,
        "",
    ]
    totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", *[(text,) for text in texts]))
    for text, total in zip(texts, totals, strict=True):
        tokens = list(text.encode())
        expected = 0.0
        for begin in range(0, len(tokens), 64):
            window = tokens[begin : begin + 64]
            before = tokens[begin - 1] if begin else 0
            if begin and len(window) < 64:  # the last window has as much context as fits in it
                seen = tokens[len(tokens) - 65 : -len(window) or None]
                expected += sum(
                    p for p, _ in naive_logprobs(lm.model.params, [*seen, *window])[-len(window) :]
                )
            else:
                expected += sum(p for p, _ in naive_logprobs(lm.model.params, [before, *window]))
        assert total == pytest.approx(expected, abs=1e-3)


def test_results_are_cached_under_the_original_strings():
    lm = byte_lm()
    seen = {}

    class Hook:
        def add_partial(self, kind, arguments, result):
            seen[kind, tuple(arguments)] = result

    lm.set_cache_hook(Hook())
    pairs = [("one ", "two"), ("three", " four")]
    results = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", ("five",)))
    assert seen == {
        **{("loglikelihood", pair): result for pair, result in zip(pairs, results, strict=True)},
        ("loglikelihood_rolling", ("five",)): totals[0],
    }


def test_report_counts_what_ran():
    lm = byte_lm(batch_size=8)
    lm.loglikelihood(requests_of("loglikelihood", ("ab", "c"), ("ab", "d"), ("abc", "def")))
    report = lm.report()
    assert report["requests"] == report["segments"] == 3
    assert report["shared"] == 1
    assert report["real_tokens"] == 2 + 2 + 5
    assert report["device_tokens"] == sum(rows * length for rows, length in report["shapes"])
    assert set(report["seconds"]) == {"tokenize", "plan", "compile", "host", "device"}


@pytest.fixture(scope="session")
def tiny_llama(evals):
    return JaxLM(pretrained=str(evals / "parity" / "tiny-llama"))


@pytest.mark.usefixtures("optimized")
def test_recorded_results_of_the_reference_backend(evals, tiny_llama):
    lines = [json.loads(line) for line in (evals / "parity" / "llama.jsonl").read_text().split("\n") if line]
    for kind in ("loglikelihood", "loglikelihood_rolling"):
        cases = [line for line in lines if line["type"] == kind]
        results = getattr(tiny_llama, kind)(requests_of(kind, *[tuple(case["args"]) for case in cases]))
        for case, result in zip(cases, results, strict=True):
            total, recorded = result, case["result"]
            if kind == "loglikelihood":
                assert result[1] == recorded[1], case["args"]
                total, recorded = result[0], recorded[0]
            assert total == pytest.approx(recorded, abs=1e-3 + 1e-5 * abs(recorded)), case["args"]


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("limit", [2, exhaustive(50)])
def test_real_tasks_end_to_end(evals, tiny_llama, limit):
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    names = ["local_arc_easy", "local_lambada_openai", "local_wikitext2"]
    results = simple_evaluate(tiny_llama, tasks=names, task_manager=tasks, limit=limit, bootstrap_iters=0)[
        "results"
    ]
    assert 0.0 <= results["local_arc_easy"]["acc,none"] <= 1.0
    # The upper bound is a uniform model's perplexity over the 4,096 tokens, for words of two tokens.
    assert 1.0 < results["local_lambada_openai"]["perplexity,none"] < 4096**2
    # A uniform model over the 4,096 tokens would need about 3 bits per byte; this model is trained.
    assert 0.5 < results["local_wikitext2"]["bits_per_byte,none"] < 3.0


@pytest.mark.parametrize("limit", [10, exhaustive(100)])
def test_accuracies_match_the_scores(evals, tiny_llama, limit):
    """Recomputes lm_eval's accuracies from the log-likelihoods and the lengths of the choices."""
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    found = simple_evaluate(
        tiny_llama, tasks=["local_arc_easy", "local_piqa"], task_manager=tasks, limit=limit, bootstrap_iters=0
    )
    for name, normalised in (("arc_easy", True), ("piqa", False)):
        lines = (evals / "data" / f"{name}.jsonl").read_text().split("\n")[:limit]
        documents = [json.loads(line) for line in lines]
        pairs = [
            (f"{document['query']}\nAnswer:", f" {choice}")
            for document in documents
            for choice in document["choices"]
        ]
        totals = iter([total for total, _ in tiny_llama.loglikelihood(requests_of("loglikelihood", *pairs))])
        right = right_normalised = 0
        for document in documents:
            scores = np.array([next(totals) for _ in document["choices"]])
            sizes = np.array([len(choice) for choice in document["choices"]])
            right += int(scores.argmax()) == document["gold"]
            right_normalised += int((scores / sizes).argmax()) == document["gold"]
        metrics = found["results"][f"local_{name}"]
        assert metrics["acc,none"] == pytest.approx(right / limit)
        if normalised:
            assert metrics["acc_norm,none"] == pytest.approx(right_normalised / limit)


@pytest.mark.exhaustive
def test_local_suite_needs_few_device_tokens(evals, local_suite):
    """Device tokens per real token over the whole suite, with GPT-2's tokenizer."""
    tokenizer = load_tokenizer(evals / "parity" / "tiny-gpt2")
    segments = loglikelihood_segments(tokenizer, [request.args for request in local_suite])
    real = len(segments.tokens) - len(segments)

    def ratio(**policy):
        statistics = BatchPolicy(batch_size=64, **policy).plan(segments, 1).statistics
        return statistics["device_tokens"] / real, len(statistics["shapes"])

    density, shapes = ratio(max_shapes=8)
    assert density <= 0.92
    assert shapes <= 8
    density, shapes = ratio(max_shapes=16)
    assert density <= 0.83
    assert shapes <= 16
    assert ratio(max_shapes=8, pack=True)[0] <= 0.76
    assert segments.equal_inputs.shape == (len(local_suite),)


def test_max_length_of_checkpoints(evals):
    """The configuration's limit, or 2,048 tokens (even for a recurrent model), unless it is "unbounded"."""
    mamba = str(evals / "parity" / "tiny-mamba")
    assert JaxLM(pretrained=mamba).max_length == 2048
    assert JaxLM(pretrained=mamba, max_length="unbounded").max_length is None
    assert JaxLM(pretrained=mamba, max_length="100").max_length == 100
    assert JaxLM(pretrained=str(evals / "parity" / "tiny-llama")).max_length == 256
