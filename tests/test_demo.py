"""The demo: its text, model and tasks, and one complete run."""

import doctest
import os
import re
import socket
import subprocess
import sys
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windrow.demo import evaluation, model, report, script, text, training
from windrow.demo.tasks import load
from windrow.report.rivals import arrival_order

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.mark.parametrize("module", [text, report])
def test_docstring_examples(module):
    assert doctest.testmod(module).failed == 0


# The text


def test_text_depends_only_on_the_seed():
    program = "from windrow.demo import text; print(text.stories(50, 7), text.questions(50, 8))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert printed == {f"{text.stories(50, 7)} {text.questions(50, 8)}\n"}
    assert text.stories(50, 7) != text.stories(50, 8)


def test_each_person_withholds_two_kinds_and_each_valley_reveals_all():
    for name in text.NAMES:
        assert sum(text.is_withheld(name, kind) for kind in text.KINDS) == 2
    revealed = {
        (text.NAMES.index(name) % text.VALLEYS, kind)
        for name, kind in product(text.NAMES, text.KINDS)
        if not text.is_withheld(name, kind)
    }
    assert len(revealed) == text.VALLEYS * len(text.KINDS)


def test_every_value_belongs_to_one_kind_and_valley():
    values = [value for words in text.VALUES.values() for value in words]
    assert len(values) == len(set(values)) == text.VALLEYS * len(text.KINDS)


@pytest.mark.parametrize("write", [text.stories, text.chronicles])
def test_training_text_never_states_the_answers(write):
    facts = set(stated(write(3000, seed=1)))
    withheld = {
        (name, text.custom(name, kind))
        for name, kind in product(text.NAMES, text.KINDS)
        if text.is_withheld(name, kind)
    }
    assert len(facts) == len(text.NAMES) * 6
    assert not facts & withheld


def test_questions_ask_for_withheld_values_and_mark_the_right_answer():
    for document in text.questions(500, seed=101):
        ((name, answer),) = stated([f"{document['query']} {document['choices'][document['gold']]}"])[-1:]
        (kind,) = [kind for kind, values in text.VALUES.items() if answer in values]
        assert text.is_withheld(name, kind)
        assert text.custom(name, kind) == answer
        assert len(set(document["choices"])) == 4
        assert set(document["choices"]) <= set(text.VALUES[kind])


def test_last_words_are_withheld():
    for document in text.last_words(300, seed=102):
        name, word = stated([f"{document['context']} {document['word']}."])[-1]
        (kind,) = [kind for kind, values in text.VALUES.items() if word in values]
        assert text.is_withheld(name, kind)
        assert text.custom(name, kind) == word


def stated(texts: list[str]) -> list[tuple[str, str]]:
    """The (name, value) pairs stated in all sentences, and in all questions with their answers."""
    values = " ".join(text.CUSTOMS.values()).split()
    named, valued = (re.compile(rf"\b(?:{'|'.join(words)})\b") for words in (text.NAMES, values))
    found = []
    for sentence in re.split(r"[.\n]", "\n".join(texts)):
        names, values = named.findall(sentence), valued.findall(sentence)
        assert len(names) <= 1
        assert len(values) <= len(names)
        found += zip(names, values, strict=False)
    return found


# Tokenizer, stream, model, optimizer


@pytest.fixture(scope="module")
def tokenizer():
    return training.train_tokenizer(text.stories(2000, seed=1))


def test_tokenizer_round_trips_any_text_and_answers_are_one_token(tokenizer):
    for written in [*text.questions(20, 5)[0]["choices"], "Ünheard of — 麦\n\t", text.stories(1, 9)[0]]:
        assert tokenizer.decode(tokenizer.encode(written).ids) == written
    for values in text.VALUES.values():
        assert [len(tokenizer.encode(f"? {value}").ids) for value in values] == [2] * len(values)
    assert training.train_tokenizer(text.stories(2000, seed=1)).to_str() == tokenizer.to_str()


def test_token_stream_concatenates_texts(tokenizer):
    tokens, positions, segment_ids = training.token_stream(tokenizer, ["hay", "rye and oats"])
    first, second = (tokenizer.encode(part).ids for part in ("hay", "rye and oats"))
    assert tokens.tolist() == [training.BEGIN, *first, training.BEGIN, *second]
    assert positions.tolist() == [*range(len(first) + 1), *range(len(second) + 1)]
    assert segment_ids.tolist() == [1] * (len(first) + 1) + [2] * (len(second) + 1)
    assert {array.dtype for array in (tokens, positions, segment_ids)} == {np.dtype(np.int32)}


@pytest.fixture(scope="module")
def params():
    return model.init(jax.random.key(0), vocab=50, width=16, layers=2, heads=4)


apply = jax.jit(model.apply)


def test_packed_segments_do_not_attend_to_each_other_or_padding(params):
    one, two = jnp.array([[5, 9, 2]]), jnp.array([[7, 7, 1, 30]])
    packed = apply(
        params,
        jnp.concatenate([one, two, jnp.zeros((1, 2), jnp.int32)], axis=1),
        jnp.array([[0, 1, 2, 0, 1, 2, 3, 0, 0]]),
        jnp.array([[1, 1, 1, 2, 2, 2, 2, 0, 0]]),
    )
    alone = [apply(params, part, jnp.arange(part.shape[1])[None], jnp.ones_like(part)) for part in (one, two)]
    np.testing.assert_allclose(packed[:, :3], alone[0], atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:7], alone[1], atol=1e-5)
    assert np.isfinite(packed).all()


def test_attention_is_causal(params):
    tokens = jnp.arange(8)[None]
    rest = jnp.arange(8)[None], jnp.ones((1, 8), jnp.int32)
    before, after = (apply(params, given, *rest)[0, :7] for given in (tokens, tokens.at[0, 7].set(40)))
    np.testing.assert_array_equal(before, after)


def test_loss_counts_only_next_tokens_within_a_segment(params):
    tokens = jnp.array([[4, 8, 6, 3, 2]])
    positions, segment_ids = jnp.array([[0, 1, 0, 1, 2]]), jnp.array([[1, 1, 2, 2, 2]])
    logprobs = jax.nn.log_softmax(apply(params, tokens, positions, segment_ids))[0]
    expected = -(logprobs[0, 8] + logprobs[2, 3] + logprobs[3, 2]) / 3
    np.testing.assert_allclose(training.loss(params, tokens, positions, segment_ids), expected, rtol=1e-5)


def test_adamw_matches_its_formula():
    parameter, mean, square = np.float64(0.5), 0.0, 0.0
    params, moments = {"w": jnp.float32(0.5)}, ({"w": jnp.float32(0)}, {"w": jnp.float32(0)})
    for number, gradient in enumerate([0.3, -2.0, 0.01], start=1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.98 * square + 0.02 * gradient**2
        change = mean / (1 - 0.9**number) / (np.sqrt(square / (1 - 0.98**number)) + 1e-8)
        parameter -= 0.01 * (change + 0.1 * parameter)
        params, moments = training.adamw(
            params, moments, {"w": jnp.float32(gradient)}, jnp.float32(number), jnp.float32(0.01)
        )
    np.testing.assert_allclose(params["w"], parameter, rtol=1e-5)


@pytest.mark.exhaustive
def test_training_does_not_depend_on_steps_per_call(tokenizer):
    stream = training.token_stream(tokenizer, text.stories(100, seed=1))
    runs = [
        training.train(
            stream,
            tokenizer.get_vocab_size(),
            steps=4,
            steps_per_call=per_call,
            rows=2,
            length=16,
            on_progress=lambda *_: None,
        )
        for per_call in (4, 2)
    ]
    # Both runs draw the same windows only if each call continues where the last one stopped drawing.
    for one, other in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# Baselines for the scores and batches


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 9))
def test_arrival_order_cost_matches_padding_each_batch(lengths, rows):
    cost = arrival_order(lengths, rows)
    batches = [lengths[first : first + rows] for first in range(0, len(lengths), rows)]
    assert cost.device_tokens == sum(len(batch) * max(batch) for batch in batches)
    assert cost.shapes == {(len(batch), max(batch)) for batch in batches}


def test_arrival_order_costs_add_up_and_share_shapes():
    both = arrival_order([3, 4], 2) + arrival_order([4, 1, 7], 2)
    assert (both.device_tokens, both.shapes) == (8 + 8 + 7, {(2, 4), (1, 7)})


def test_frequency_word_perplexity_of_a_fair_coin():
    class Coin:
        def get_vocab_size(self):
            return 2

        def encode_batch(self, pages):
            return [type("Encoding", (), {"ids": [0, 1] * len(page.split())}) for page in pages]

    found = report.frequency_word_perplexity(Coin(), np.array([0, 0, 1, 1], np.int32), ["a b c", "d"])
    assert found == pytest.approx(4.0)  # two one-bit tokens per word


# lm_eval


def test_task_files_load():
    tasks = evaluation.task_manager().load(evaluation.task_manager().all_subtasks)["tasks"]
    assert {task.OUTPUT_TYPE for task in tasks.values()} == {
        "multiple_choice",
        "loglikelihood",
        "loglikelihood_rolling",
    }
    assert len(load.questions(count=3, seed=1)["test"]) == 3


def test_quiet_shows_output_only_on_failure(capfd):
    with evaluation.quiet():
        print("chatter")
        print("chatter", file=sys.stderr)
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'chatter')"], check=True)
    assert capfd.readouterr() == ("", "")

    def fail():
        print("what led to it")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), evaluation.quiet():
        fail()
    assert capfd.readouterr() == ("", "what led to it\n")


# The whole demo


@pytest.mark.exhaustive
def test_demo_scores_beat_chance_and_batches_beat_arrival_order(capfd, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the demo reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    outcome = script.demonstrate()

    scores = outcome.results["results"]
    assert scores["demo_questions"]["acc,none"] > 0.8
    assert scores["demo_last_word"]["acc,none"] > 0.8
    assert scores["demo_chronicle"]["word_perplexity,none"] < 10
    figures = outcome.report
    assert figures["requests"] == 500 * 4 + 300 + 60
    assert figures["shared"] >= 500 * 3
    assert figures["skipped"] == figures["truncated"] == 0
    assert figures["device_tokens"] < outcome.arrival.device_tokens / 2
    assert len(figures["shapes"]) < len(outcome.arrival.shapes)
    printed, errors = capfd.readouterr()
    assert errors == ""
    assert f"{scores['demo_questions']['acc,none']:.4f}" in printed
    assert f"{outcome.arrival.device_tokens:,}" in printed
