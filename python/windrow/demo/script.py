"""The demo script."""

from textwrap import wrap
from time import perf_counter
from typing import Any, NamedTuple

import jax
from lm_eval.utils import make_table
from tokenizers import Tokenizer

from windrow.demo.evaluation import evaluate, quiet
from windrow.demo.model import Params, language_model
from windrow.demo.report import arguments_of, batches, chances
from windrow.demo.text import stories
from windrow.demo.training import BEGIN, Stream, token_stream, train, train_tokenizer
from windrow.harness import JaxLM
from windrow.model import parameter_count
from windrow.report.rivals import Cost
from windrow.report.rivals import arrival_order as arrival_cost
from windrow.tokens import loglikelihood_segments, rolling_segments

STORIES = 6000
SEED = 1
STEPS = 400
MAX_LENGTH = 192
ROWS = 32

NEXT = """Next, evaluate your own model, from a function that returns the model and its tokenizer:

  windrow run --model_args factory=my_module:make_model --tasks arc_easy --limit 100"""


class Outcome(NamedTuple):
    """The demo's figures: lm_eval's results, JaxLM's report, and the cost of arrival order."""

    results: dict[str, Any]
    report: dict[str, Any]
    arrival: Cost


def demonstrate() -> Outcome:
    """Trains, evaluates, prints; returns the figures."""
    start = perf_counter()
    texts = stories(STORIES, SEED)
    tokenizer = train_tokenizer(texts)
    stream = token_stream(tokenizer, texts)
    say(f"Text      {len(texts):,} made-up stories, {len(stream[0]):,} tokens, such as")
    say(indented(next(text for text in texts if 100 < len(text) < 200 and "?" in text)))

    params = trained(stream, tokenizer)
    rows = -(-ROWS // jax.device_count()) * jax.device_count()
    lm = JaxLM(
        language_model(params, MAX_LENGTH), tokenizer, batch_size=rows, max_shapes=4, prefix_token_id=BEGIN
    )

    say("\nEvaluate  with lm_eval, on facts that no training story mentions ...")
    begun = perf_counter()
    with quiet():
        results = evaluate(lm)
    say(f"          {len(results['configs'])} tasks   {perf_counter() - begun:.1f} s\n")
    say(make_table(results))
    say("For comparison, the scores without understanding the text:\n")
    say(chances(results, tokenizer, stream[0]))

    arrival = arrival_order(lm, results, rows)
    say(f"\nBatches of {rows} rows, compared with batches in arrival order, each padded to its longest:\n")
    say(batches(lm.report(), arrival))
    say("\n  seconds: " + ", ".join(f"{phase} {s:.1f}" for phase, s in lm.report()["seconds"].items()))
    say(f"\nDone in {perf_counter() - start:.0f} s. {NEXT}")
    return Outcome(results, lm.report(), arrival)


def say(line: str) -> None:
    """Prints a line immediately, even to a pipe."""
    print(line, flush=True)


def indented(text: str) -> str:
    """The text, wrapped and indented to align with the lines above."""
    margin = " " * 10
    lines = (wrap(line, 90, initial_indent=margin, subsequent_indent=margin) for line in text.splitlines())
    return "\n".join(line for part in lines for line in part)


def trained(stream: Stream, tokenizer: Tokenizer) -> Params:
    """Trains the model and prints a line every hundred steps."""
    start = perf_counter()

    def show(step: int, loss: float) -> None:
        if step % 100 == 0:
            say(f"          step {step} of {STEPS}   loss {loss:.3f}   {perf_counter() - start:.1f} s")

    say(f"\nTrain     a transformer on {jax.devices()[0].platform}, vocabulary {tokenizer.get_vocab_size()}")
    params = train(stream, tokenizer.get_vocab_size(), steps=STEPS, on_progress=show)
    say(f"          {parameter_count(params):,} parameters")
    return params


def arrival_order(lm: JaxLM, results: dict[str, Any], rows: int) -> Cost:
    """The cost of the same requests in the order in which lm_eval passes them."""
    pairs: list[tuple[str, str]] = []
    texts: list[str] = []
    for task, config in results["configs"].items():
        if config["output_type"] == "loglikelihood_rolling":
            texts += [text for (text,) in arguments_of(results, task)]
        elif config["output_type"] in ("loglikelihood", "multiple_choice"):
            pairs += [(context, continuation) for context, continuation in arguments_of(results, task)]
    runs = (
        loglikelihood_segments(lm.tokenizer, pairs, max_length=lm.max_length),
        rolling_segments(lm.tokenizer, texts, max_length=lm.max_length),
    )
    first, second = (arrival_cost(segments.input_lengths, rows) for segments in runs)
    return first + second
