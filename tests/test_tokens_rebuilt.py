"""Tokenizers that transformers 5.24 rebuilds: LlamaTokenizer (test_tokens_classes has the other classes)."""

import json

import pytest

from trained_tokenizers import QUICK, SLOW
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
def test_class_determines_how_spaces_are_marked(tmp_path, name, model, config, expected):
    folder = save(tmp_path, QUICK["llama2"](), model, tokenizer_class=name, **config)
    with pytest.warns(UserWarning, match="loads this tokenizer as LlamaTokenizer, which replaces the normal"):
        ours = load_tokenizer(folder)
    assert [text_of(ours, text) for text in SPACED] == expected
    # The file's template is kept, and special tokens have defaults.
    assert ours.encode("cow")[0] == ours.bos_token_id == 1
    assert ours.decode(ours.encode("cow eats")) == "cow eats"


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ({"model_type": "mistral"}, {"tokenizer_class": "LlamaTokenizer"}),
        ({"model_type": "llama"}, {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ({"model_type": "llama"}, {}),
    ],
)
def test_other_classes_use_the_file(tmp_path, model, config):
    theirs = QUICK["llama2"]()
    ours = load_tokenizer(save(tmp_path, theirs, model, **config))
    assert [ours.encode(text) for text in SPACED] == [theirs.encode(text).ids for text in SPACED]


def test_class_may_be_named_in_the_model_configuration(tmp_path):
    model = {"model_type": "llama", "tokenizer_class": "LlamaTokenizer"}
    folder = save(tmp_path, QUICK["llama2"](), model, tokenizer_class=None)
    with pytest.warns(UserWarning, match="loads this tokenizer as LlamaTokenizer"):
        ours = load_tokenizer(folder)
    assert text_of(ours, " cow") == "▁cow"


def test_byte_level_tokenizer_of_this_class_is_unchanged(tmp_path):
    theirs = QUICK["llama3"]()
    ours = load_tokenizer(save(tmp_path, theirs, tokenizer_class="LlamaTokenizer"))
    assert [ours.encode(text) for text in SPACED] == [theirs.encode(text).ids for text in SPACED]


@pytest.mark.filterwarnings("ignore:.*uses the tokenizers package")
def test_unigram_pieces_become_single_letters_in_this_class(tmp_path):
    theirs = SLOW["unigram"]()  # trained only once: the trainer orders pieces with equal scores randomly
    with pytest.warns(UserWarning, match="LlamaTokenizer, which replaces the model, normalizer"):
        ours = load_tokenizer(save(tmp_path, theirs, tokenizer_class="LlamaTokenizer"))
    there = theirs.get_vocab()
    assert ours.encode("cow", add_special_tokens=False) == [there[letter] for letter in "▁cow"]
