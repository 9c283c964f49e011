"""Tokenizers of the first Llamas, as transformers 5.23 makes them of their files."""

import json

import pytest
import tokenizers

from trained_tokenizers import QUICK, unigram
from windrow.tokens import load_tokenizer

SPACED = [" cow", "  cow", "cow", "<s>[INST] cow", "a</s>b c", "", " "]


def save(folder, backend, model=None, **config):
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps(model or {}))
    return folder


def pieces(tokenizer, text):
    backend = QUICK["llama2"]()
    return [backend.id_to_token(id) for id in tokenizer.encode(text, add_special_tokens=False)]


def text_of(tokenizer, text):
    return "".join(pieces(tokenizer, text))


@pytest.mark.parametrize("name", ["LlamaTokenizer", "LlamaTokenizerFast"])
@pytest.mark.parametrize("model", [{}, {"model_type": "llama"}])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["▁cow", "▁▁cow", "▁cow", "<s>[INST]▁cow", "▁a</s>b▁c", "", "▁"]),
        ({"legacy": False}, ["▁cow", "▁▁cow", "▁cow", "<s>[INST]▁cow", "▁a</s>b▁c", "", "▁"]),
        ({"legacy": True}, ["▁cow", "▁▁cow", "▁cow", "<s>▁[INST]▁cow", "▁a</s>▁b▁c", "", "▁"]),
        ({"add_prefix_space": False}, ["▁cow", "▁▁cow", "cow", "<s>[INST]▁cow", "a</s>b▁c", "", "▁"]),
    ],
)
def test_spaces_are_marked_by_the_class(tmp_path, name, model, config, expected):
    ours = load_tokenizer(save(tmp_path, QUICK["llama2"](), model, tokenizer_class=name, **config))
    assert [text_of(ours, text) for text in SPACED] == expected
    assert ours.encode("cow")[0] == ours.bos_token_id == 1  # its template stays, its roles have defaults
    assert ours.decode(ours.encode("cow eats")) == "cow eats"


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ({"model_type": "mistral"}, {"tokenizer_class": "LlamaTokenizer"}),
        ({"model_type": "llama"}, {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ({"model_type": "llama"}, {}),
    ],
)
def test_of_others_the_file_counts(tmp_path, model, config):
    theirs = QUICK["llama2"]()
    ours = load_tokenizer(save(tmp_path, theirs, model, **config))
    assert [ours.encode(text) for text in SPACED] == [theirs.encode(text).ids for text in SPACED]


def test_the_class_may_be_named_beside_the_model(tmp_path):
    model = {"model_type": "llama", "tokenizer_class": "LlamaTokenizer"}
    ours = load_tokenizer(save(tmp_path, QUICK["llama2"](), model, tokenizer_class=None))
    assert text_of(ours, " cow") == "▁cow"


@pytest.mark.parametrize("kind", [QUICK["llama3"], unigram])
@pytest.mark.filterwarnings("ignore:.*goes through the tokenizers package")
def test_other_kinds_of_this_class_stay_what_they_are(tmp_path, kind):
    theirs = tokenizers.Tokenizer.from_str(kind().to_str())
    ours = load_tokenizer(save(tmp_path, theirs, tokenizer_class="LlamaTokenizer"))
    assert [ours.encode(text) for text in SPACED] == [theirs.encode(text).ids for text in SPACED]
