"""Baselines for the demo's scores and batches."""

import re
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from windrow.demo.text import VALLEYS
from windrow.report.rivals import Cost

Results = dict[str, Any]
"""The result of ``lm_eval.simple_evaluate``."""


def chances(results: Results, tokenizer: Tokenizer, training_tokens: NDArray[np.int32]) -> str:
    """The scores on the same tasks without any understanding of the text, as lines of text."""
    pages = [arguments[0] for arguments in arguments_of(results, "demo_chronicle")]
    frequencies = frequency_word_perplexity(tokenizer, training_tokens, pages)
    lines = (
        ("demo_questions", "acc", 1 / 4, "one of four answers"),
        ("demo_last_word", "acc", 1 / VALLEYS, f"one of the {VALLEYS} words of the right kind"),
        ("demo_chronicle", "word_perplexity", frequencies, "each token scored by its frequency"),
    )
    return "\n".join(f"  {task:15} {metric:15} {value:10.4f}  {how}" for task, metric, value, how in lines)


def arguments_of(results: Results, task: str) -> list[tuple[str, ...]]:
    """The arguments of a task's requests, in lm_eval's order."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return [tuple(arguments) for sample in samples for arguments in sample["arguments"]]


def frequency_word_perplexity(
    tokenizer: Tokenizer, training_tokens: NDArray[np.int32], pages: list[str]
) -> float:
    """The word perplexity, as lm_eval counts words, of a model that only knows token frequencies."""
    counts = np.bincount(training_tokens, minlength=tokenizer.get_vocab_size()) + 1
    logprobs = np.log(counts / counts.sum())
    total = sum(logprobs[encoding.ids].sum() for encoding in tokenizer.encode_batch(pages))
    return exp(-total / sum(len(re.split(r"\s+", page)) for page in pages))


def batches(report: dict[str, Any], arrival: Cost) -> str:
    """A table that compares windrow's batches with batches in arrival order."""
    real = report["real_tokens"]
    rows = (
        ("requests", report["requests"], report["requests"]),
        ("rows on the device", report["rows"], report["segments"]),
        ("segments deduplicated", report["shared"], 0),
        ("real tokens", real, real),
        ("device tokens", report["device_tokens"], arrival.device_tokens),
        ("device tokens per real token", report["device_tokens"] / real, arrival.device_tokens / real),
        ("shapes to compile", len(report["shapes"]), len(arrival.shapes)),
    )
    lines = [f"  {'':34}{'windrow':>10}{'arrival order':>16}"]
    for name, ours, theirs in rows:
        style = ",.2f" if isinstance(ours, float) else ",d"
        lines.append(f"  {name:34}{ours:>10{style}}{theirs:>16{style}}")
    return "\n".join(lines)
