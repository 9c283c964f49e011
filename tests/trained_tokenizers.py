"""Tokenizers of every kind, trained on text in the standard library, and texts that are hard to encode."""

# ruff: noqa: RUF001 - the tests need letters that resemble others

import email
import functools
import inspect
import random
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordLevelTrainer, WordPieceTrainer

from kept import kept

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = _CL100K.replace("DIGITS", r"\p{N}{1,3}")
QWEN2 = _CL100K.replace("DIGITS", r"\p{N}")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]+[", r"[^\s\p{L}\p{M}\p{N}]+[")
NOT_HAN = (
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
ANY_DIGITS = _CL100K.replace("DIGITS", r"\p{N}+")
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
FOREIGN = (
    "Straße naïve café Ελληνικά русский язык 中文字符 日本語テスト العربية עברית 한국어 हिन्दी ไทย "
    "👩‍👩‍👧‍👦 🇩🇪 ½ ﬁ ① 2024 1999 31415"
)


@functools.cache
def corpus() -> list[str]:
    sources = "\n".join(inspect.getsource(module) for module in (email, functools, inspect, textwrap))
    return [*sources.split("\n\n"), *[FOREIGN] * 20, *[str(year) for year in range(1900, 2030)] * 3]


def train(tokenizer, trainer):
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_bpe(*split, normalizer=None, bos=False, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level]) if split else byte_level
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train(
        tokenizer,
        BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
        )
    return tokenizer


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def char_bpe(pre_tokenizer, normalizer=None, special=SPECIAL, **model):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    return train(
        tokenizer,
        BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False, limit_alphabet=200),
    )


def llama2():
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = char_bpe(None, spaces, ["<unk>", "<s>", "</s>", *BYTES], byte_fallback=True, fuse_unk=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def metaspace(scheme, whole=False):
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=not whole)
    return char_bpe(pre_tokenizer, None, ["<unk>", "<s>", "</s>", *BYTES], byte_fallback=True)


def word_piece(lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train(tokenizer, WordPieceTrainer(vocab_size=1200, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return train(tokenizer, WordLevelTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False))


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return train(
        tokenizer,
        UnigramTrainer(vocab_size=800, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False),
    )


def with_added_tokens(lead="lead", **flags):
    tokenizer = byte_bpe()
    tokenizer.add_tokens([AddedToken("<tool>", lstrip=True, rstrip=True), AddedToken("NORM"), "Ĝx", lead])
    tokenizer.add_tokens([AddedToken("foo bar", **flags)])
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", lstrip=True), AddedToken("<|x|>", rstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def prefix_space():
    tokenizer = byte_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def once(kind, train):
    """Trains on the first call in any process; each call returns a new tokenizer."""
    made_by = version("tokenizers"), sys.version, Path(__file__).read_text(encoding="utf-8")
    described = functools.cache(lambda: kept(lambda: train().to_str(), "tokenizer", kind, *made_by))
    return lambda: Tokenizer.from_str(described())


QUICK = {
    "gpt2": byte_bpe,
    "gpt2-split": lambda: byte_bpe(split(GPT2)),
    "llama3": lambda: byte_bpe(split(LLAMA3), bos=True, ignore_merges=True),
    "qwen2": lambda: byte_bpe(split(QWEN2), normalizer=normalizers.NFC()),
    "qwen3.5": lambda: byte_bpe(split(QWEN35), normalizer=normalizers.NFC()),
    "not-han": lambda: byte_bpe(split(NOT_HAN), bos=True),
    "any-digits": lambda: byte_bpe(split(ANY_DIGITS)),
    "digits": lambda: byte_bpe(pre_tokenizers.Digits(individual_digits=True), split(GPT2)),
    "punctuation": lambda: byte_bpe(pre_tokenizers.Punctuation(), split(GPT2)),
    "llama2": llama2,
    "metaspace-always": lambda: metaspace("always"),
    "metaspace-first-whole": lambda: metaspace("first", whole=True),
    "metaspace-never": lambda: metaspace("never"),
    "nfkc-lowercase": lambda: char_bpe(
        pre_tokenizers.Whitespace(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    ),
    "nfd-strip-accents": lambda: char_bpe(
        pre_tokenizers.Whitespace(),
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()]),
    ),
    "end-of-word": lambda: char_bpe(pre_tokenizers.Whitespace(), end_of_word_suffix="</w>"),
    "bert-uncased": lambda: word_piece(lowercase=True),
    "bert-cased": lambda: word_piece(lowercase=False),
    "word-level": word_level,
    "added-tokens": with_added_tokens,
}
QUICK = {kind: once(kind, train) for kind, train in QUICK.items()}
"""Kinds that windrow's own encoder supports."""

SLOW = {
    "unigram": unigram,
    "prefix-space": prefix_space,
    "own-pattern": lambda: byte_bpe(split(r"\w+|\s+|[^\w\s]+")),
    "single-word": lambda: with_added_tokens(single_word=True),
    "space-beside": lambda: with_added_tokens(" lead"),
}
SLOW = {kind: once(kind, train) for kind, train in SLOW.items()}
"""Kinds that need the ``tokenizers`` package."""

ADVERSARIAL = [
    *(
        "",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "\x1c\x1f",
        "\u3000",
        "\u200b",
        "\ufeff",
        " " * 300,
        "\n" * 200,
    ),
    *(
        "a" * 5000,
        "ab " * 2000,
        "<s>",
        " <s> ",
        "<s></s>",
        "a<s>b",
        "<S>",
        "<unk>",
        "[CLS] [SEP][MASK]",
        "<0x41>",
    ),
    *(
        "<tool>",
        " <tool> ",
        "a<tool> lead",
        "foo bar",
        "xfoo bar",
        "NORMfoo bar",
        "<|im_end|> x",
        "x <|x|>  y",
        "▁▁ a",
        "Ġ Ċ",
    ),
    *(
        "שלום עולם",
        "مرحبا بالعالم",
        "\u202eabc\u202c",
        "👩‍👩‍👧‍👦👨🏽‍🚀🇩🇪🇫🇷❤️",
        "e\u0301 é",
        "ﬁ ½ ① ﷺ Ⅷ",
        "İ ı ß ẞ ſ",
    ),
    *(
        "한국어 가\u1100\u1161",
        "中文，字符。〇",
        "日本語ﾃｽﾄ",
        "हिन्दी",
        "ไทย",
        "don't I'LL we'Ve 'S ſ's",
        "1234567890 １２３ ²³",
    ),
    *(
        "a\u0300\u0301\u0302b q\u0323\u0307 q\u0307\u0323",
        "\U0010ffff\ue000\ufffd\uffff",
        "x\u00a0y\u2003z\u0085w",
    ),
    *(
        "a\u061db\u1adbc",
        "\U000113c2\U0001611e\U00016d67",
        "Σας ΣΑΣ",
        "“”‘’…—",
        "###",
        "''ll",
        "7 77 777 7777 77777",
    ),
    "def f(x):\n    return {'a': [1, 2.5]}  # done\n\n\n",
]


def random_texts(count, seed=0):
    """Texts of random characters, and of words with a few random characters inserted."""
    rng = random.Random(seed)
    scripts = [(32, 127), (0xA0, 0x250), (0x300, 0x530), (0x590, 0x700), (0x900, 0x980), (0x1E00, 0x2100)]
    scripts += [(0x2100, 0x2500), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAC80), (0xFE00, 0xFF70)]
    scripts += [(0x1F300, 0x1F700), (0, 0xD800), (0xE000, 0x110000)]
    odd = [" ", " ", "\n", "'s", "<s>", "<tool>", "NORM", "foo bar", "▁", "\u0301", "19", "2024"]

    def character():
        return rng.choice(odd) if rng.random() < 0.2 else chr(rng.randrange(*rng.choice(scripts)))

    for _ in range(count):
        if rng.random() < 0.5:
            yield "".join(character() for _ in range(rng.randint(1, 60)))
            continue
        text = rng.choice(corpus())
        start = rng.randrange(len(text) + 1)
        pieces = list(text[start : start + rng.randint(1, 200)])
        for _ in range(rng.randint(0, 4)):
            pieces.insert(rng.randint(0, len(pieces)), character())
        yield "".join(pieces)
