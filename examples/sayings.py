"""Shared by the examples: a byte tokenizer and an lm_eval task. Neither needs a network.

The task asks for the end of a saying, with the ends of three other sayings as wrong answers.
"""

from typing import Any

import datasets
import lm_eval
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import windrow

SAYINGS = [
    ("Make hay", "while the sun shines."),
    ("As you sow,", "so shall you reap."),
    ("Many hands", "make light work."),
    ("A stitch in time", "saves nine."),
    ("Still waters", "run deep."),
    ("The early bird", "catches the worm."),
    ("A rolling stone", "gathers no moss."),
    ("Strike the iron", "while it is hot."),
    ("When the cat is away,", "the mice will play."),
    ("Birds of a feather", "flock together."),
    ("Do not count your chickens", "before they are hatched."),
    ("Out of sight,", "out of mind."),
    ("All that glitters", "is not gold."),
    ("Too many cooks", "spoil the broth."),
    ("Where there is smoke,", "there is fire."),
    ("One swallow", "does not make a summer."),
    ("An apple a day", "keeps the doctor away."),
    ("Better late", "than never."),
    ("Look before", "you leap."),
    ("Well begun", "is half done."),
]

TEXTS = [f"{beginning} {end}" for beginning, end in SAYINGS]

END = 256
"""The token before and after a text; the other tokens are bytes."""

VOCABULARY = 257


def byte_tokenizer() -> Tokenizer:
    """A tokenizer with one token per byte, and one more. A checkpoint's ``tokenizer.json`` works too."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: token for token, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def documents(**_: Any) -> dict[str, datasets.Dataset]:
    """The task's documents: beginnings with four ends each, and the index of the right one."""
    ends = [end for _, end in SAYINGS]
    rows = [
        {"beginning": beginning, "ends": [ends[(at + step) % len(ends)] for step in (0, 3, 7, 11)], "gold": 0}
        for at, (beginning, _) in enumerate(SAYINGS)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


TASK = {
    "task": "sayings",
    "custom_dataset": documents,
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{beginning}}",
    "doc_to_choice": "{{ends}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1},
}


def evaluate(lm: windrow.JaxLM) -> float:
    """Runs lm_eval, prints its table, and returns the fraction of right answers; chance is one in four."""
    tasks = TaskManager(include_defaults=False)  # scanning lm_eval's own tasks takes about ten seconds
    results = lm_eval.simple_evaluate(lm, tasks=[TASK], task_manager=tasks, bootstrap_iters=0)
    print(make_table(results))
    return results["results"]["sayings"]["acc,none"]
