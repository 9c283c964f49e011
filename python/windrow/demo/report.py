"""What the scores and the batches are to be compared with."""

import re
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from windrow.demo.text import VALLEYS

Results = dict[str, Any]
"""What ``lm_eval.simple_evaluate`` gives."""


@dataclass(frozen=True)
class ArrivalOrder:
    """What batches cost when segments stay in the order they came in.

    Attributes:
        device_tokens: Tokens on the device, padding included.
        shapes: The distinct ``(rows, length)``, each of which is one compilation.
    """

    device_tokens: int
    shapes: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, lengths: ArrayLike, rows: int) -> "ArrivalOrder":
        """Takes ``rows`` segments at a time and pads each batch to its longest; nothing is shared.

        >>> cost = ArrivalOrder.of([3, 5, 4, 2, 9], rows=2)
        >>> cost.device_tokens, sorted(cost.shapes)
        (27, [(1, 9), (2, 4), (2, 5)])
        """
        array = np.asarray(lengths, np.int64)
        begins = np.arange(0, len(array), rows)
        counts = np.minimum(rows, len(array) - begins)
        longest = np.maximum.reduceat(array, begins) if len(array) else array
        shapes = frozenset(zip(counts.tolist(), longest.tolist(), strict=True))
        return cls(int(counts @ longest), shapes)

    def __add__(self, other: "ArrivalOrder") -> "ArrivalOrder":
        return ArrivalOrder(self.device_tokens + other.device_tokens, self.shapes | other.shapes)


def chances(results: Results, tokenizer: Tokenizer, training_tokens: NDArray[np.int32]) -> str:
    """What the same tasks give without any understanding of the text, as lines of text."""
    pages = [arguments[0] for arguments in arguments_of(results, "demo_chronicle")]
    frequencies = frequency_word_perplexity(tokenizer, training_tokens, pages)
    lines = (
        ("demo_questions", "acc", 1 / 4, "one of four answers"),
        ("demo_last_word", "acc", 1 / VALLEYS, f"one of the {VALLEYS} words of the right kind"),
        ("demo_chronicle", "word_perplexity", frequencies, "each token by its frequency alone"),
    )
    return "\n".join(f"  {task:15} {metric:15} {value:10.4f}  {how}" for task, metric, value, how in lines)


def arguments_of(results: Results, task: str) -> list[tuple[str, ...]]:
    """The arguments of a task's requests, in the order in which lm_eval made them."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return [tuple(arguments) for sample in samples for arguments in sample["arguments"]]


def frequency_word_perplexity(
    tokenizer: Tokenizer, training_tokens: NDArray[np.int32], pages: list[str]
) -> float:
    """The word perplexity, as lm_eval counts words, of a model that knows only how frequent tokens are."""
    counts = np.bincount(training_tokens, minlength=tokenizer.get_vocab_size()) + 1
    logprobs = np.log(counts / counts.sum())
    total = sum(logprobs[encoding.ids].sum() for encoding in tokenizer.encode_batch(pages))
    return exp(-total / sum(len(re.split(r"\s+", page)) for page in pages))


def batches(report: dict[str, Any], arrival: ArrivalOrder) -> str:
    """What windrow put on the device beside what arrival order would have, as a table."""
    real = report["real_tokens"]
    rows = (
        ("requests", report["requests"], report["requests"]),
        ("rows on the device", report["rows"], report["segments"]),
        ("segments that share another's row", report["shared"], 0),
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
