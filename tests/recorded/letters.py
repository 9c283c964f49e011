"""A tokenizer for the random checkpoints, whose vocabulary has 61 tokens, and requests to score with them."""

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers

SPECIAL = ("<pad>", "<s>", "</s>")
"""Their ids are those in the configurations."""

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?:"
MERGED = ("th", "an", "er", "in", "on", "re", "he", "at", "en", "st", "▁a", "▁t", "▁s", "▁c", "▁o", "▁w")
"""Pairs of letters that form one token."""


def write_tokenizer(folder):
    """Writes a BPE tokenizer over these letters, with marked spaces; it adds no BOS or EOS to texts."""
    merges = [*MERGED, ("▁t", "h")]
    vocab = {text: id for id, text in enumerate([*SPECIAL, "▁", *LETTERS, *map("".join, merges)])}
    made = Tokenizer(models.BPE(vocab, [(first, last) for first, last in merges]))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Replace("▁", " ")
    made.add_special_tokens(list(SPECIAL))
    made.save(str(folder / "tokenizer.json"))
    names = '{"tokenizer_class": "TokenizersBackend", "bos_token": "<s>", "eos_token": "</s>"}'
    (folder / "tokenizer_config.json").write_text(names)


def requests():
    """Pairs of context and continuation.

    Questions with four answers each after the same examples, every letter after one question, texts longer
    than most models' limit, short texts, and continuations without a context.
    """
    rng = np.random.default_rng(0)

    def text(size):
        return "".join(rng.choice(list(LETTERS + " " * 8), size)).strip() or "a"

    examples = text(90)
    questions = [f"{examples} {text(size)}:" for size in (5, 18, 31, 44, 57, 70)]
    made = [(question, f" {text(size)}") for question in questions for size in (1, 4, 9, 16)]
    made += [(questions[1], letter) for letter in LETTERS]
    made += [(text(size), f" {text(size // 8)}") for size in (220, 260, 330, 500)]
    made += [(text(size), text(size)) for size in (1, 2, 3, 8, 13, 40, 100)]
    return made + [("", text(size)) for size in (1, 12, 120)]
