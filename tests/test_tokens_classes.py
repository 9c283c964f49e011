"""Tokenizer folders are read as by AutoTokenizer of transformers 5.24."""

import json
import warnings
from pathlib import Path

import pytest

from local_suite import EVALS
from tiny_tokenizers import TEXTS, save_folder
from windrow.tokens import load_tokenizer
from windrow.tokens.classes import class_of
from windrow.tokens.source import TokenizerFiles

RECORDINGS = [
    json.loads(line)
    for line in Path(__file__).with_name("tokenizer_recordings.jsonl").read_text().splitlines()
]
"""AutoTokenizer's results for tiny folders: ids with and without special tokens, and decoded ids."""

FOLDERS = sorted(path.name for path in (EVALS / "tokenizers").glob("*") if path.is_dir())


@pytest.mark.filterwarnings("ignore:.*transformers loads this tokenizer as")
@pytest.mark.filterwarnings("ignore:.*uses the tokenizers package")
@pytest.mark.filterwarnings("ignore:.*tokenizer_config.json says")
@pytest.mark.parametrize("name", FOLDERS or ["no folders"])
def test_recorded_folders_match_transformers(evals, name):
    records = [json.loads(line) for line in (evals / "tokenizers" / f"{name}.jsonl").read_text().splitlines()]
    first = records[0]
    ours = load_tokenizer(evals / "tokenizers" / name)
    ids = {"bos": ours.bos_token_id, "eos": ours.eos_token_id, "pad": ours.pad_token_id}
    assert ids == {role: first[role] for role in ids}
    assert ours.vocab_size == first["size"]
    texts = [record for record in records if "ids" in record]
    tokens = [record for record in records if "tokens" in record]
    assert len(texts) > 50
    assert len(tokens) > 10
    for record in texts:
        assert ours.encode(record["text"], add_special_tokens=True) == record["ids"], record["text"]
        assert ours.encode(record["text"], add_special_tokens=False) == record["plain"], record["text"]
    for record in tokens:
        assert ours.decode(record["tokens"], skip_special_tokens=True) == record["text"]
        assert ours.decode(record["tokens"], skip_special_tokens=False) == record["shown"]


def load_silently(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_tokenizer(folder)


@pytest.mark.parametrize("number", range(len(RECORDINGS)))
def test_tiny_folders_match_transformers(tmp_path, number):
    record = RECORDINGS[number]
    ours = load_silently(save_folder(tmp_path, record["kind"], record["model"], record["config"]))
    assert [ours.bos_token_id, ours.eos_token_id, ours.pad_token_id] == record["special"]
    assert ours.vocab_size == record["size"]
    assert [ours.encode(text, add_special_tokens=True) for text in TEXTS] == record["ids"]
    assert [ours.encode(text, add_special_tokens=False) for text in TEXTS] == record["plain"]
    for tokens, (without, with_special) in zip(record["tokens"], record["decoded"], strict=True):
        assert ours.decode(tokens) == without
        assert ours.decode(tokens, skip_special_tokens=False) == with_special


@pytest.mark.parametrize("record", RECORDINGS[:17], ids=lambda record: str(record["model"]))
def test_class_names(record):
    files = TokenizerFiles(
        "some", '"ByteLevel"', record["config"], model_type=record["model"].get("model_type")
    )
    assert class_of(files) == record["class"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (TokenizerFiles("deepseek-ai/DeepSeek-Coder-1", "", model_type="gpt2"), "TokenizersBackend"),
        (
            TokenizerFiles("some", "", {"tokenizer_class": "GPT2Tokenizer"}, model_type="qwen3"),
            "GPT2Tokenizer",
        ),
        (
            TokenizerFiles(
                "some", "", {"tokenizer_class": "GPT2Tokenizer"}, model_type="qwen3", model_name="qwen2"
            ),
            "Qwen2Tokenizer",
        ),
        (
            TokenizerFiles(
                "some", "", {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own"]}}
            ),
            "TokenizersBackend",
        ),
        (
            TokenizerFiles(
                "some",
                "",
                {"tokenizer_class": "LlamaTokenizer", "auto_map": {"AutoTokenizer": ["own.Own"]}},
                model_type="mistral",
            ),
            "LlamaTokenizer",
        ),
    ],
)
def test_other_sources_of_the_class(files, expected):
    assert class_of(files) == expected


def test_departures_from_the_file_are_named_once(tmp_path):
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    folder = save_folder(tmp_path, "byte_pairs_bos", {"model_type": "mamba"}, tokens)
    with pytest.warns(UserWarning, match="loads this tokenizer as") as caught:
        load_tokenizer(folder)
    assert [str(warning.message) for warning in caught] == [
        f"{str(folder)!r}: transformers loads this tokenizer as GPTNeoXTokenizer, which replaces the "
        "normalizer, post_processor of its tokenizer.json; windrow does the same. To use the file unchanged, "
        "pass tokenizers.Tokenizer.from_file(...) as the tokenizer."
    ]


def test_file_that_matches_its_class_causes_no_warning(tmp_path):
    load_tokenizer(save_folder(tmp_path, "byte_pairs", {"model_type": "gpt2"}, {}))


def test_unknown_classes_are_named(tmp_path):
    folder = save_folder(tmp_path, "byte_pairs", {"model_type": "whisper"}, {})
    with pytest.warns(
        UserWarning, match="as WhisperTokenizer, which windrow does not know; tokenizer.json is used"
    ):
        load_tokenizer(folder)
