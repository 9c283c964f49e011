"""Sources from which a tokenizer can be loaded, and the special tokens in its files."""

import json
import os
import subprocess
import sys

import pytest
import tokenizers
from tokenizers import models, processors

from trained_tokenizers import QUICK, SLOW, byte_bpe
from windrow.tokens import load_tokenizer, loglikelihood_segments

TEXTS = ["The cow eats.", "<s>begun", "", "naïve 日本", "end</s>"]


class Words:
    """A tokenizer of no library, with one token per character."""

    def encode(self, text):
        return [ord(letter) for letter in text]


class Rich(Words):
    """A tokenizer with more attributes, as other libraries have."""

    bos_token, bos_token_id, eot_token, n_vocab, model_max_length = "\x02", 2, 3, 200_000, 64
    chat_template = "{{ messages[0].content }}"

    def encode(self, text, add_special_tokens=True):
        return [2] * add_special_tokens + super().encode(text)

    def decode(self, tokens):
        return "".join(map(chr, tokens))


class Fast:
    """The attributes of a fast tokenizer of transformers."""

    name_or_path, model_max_length, chat_template, clean_up_tokenization_spaces = (
        "some/model",
        512,
        None,
        False,
    )

    def __init__(self, backend, **special):
        self.backend_tokenizer, self.special_tokens_map = backend, special


def save(folder, backend, config=None, **files):
    backend.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def same(ours, theirs):
    for specials in (True, False):
        expected = [theirs.encode(text, add_special_tokens=specials).ids for text in TEXTS]
        assert [ours.encode(text, add_special_tokens=specials) for text in TEXTS] == expected
    return True


@pytest.mark.filterwarnings("ignore:tokenizer .* uses")
def test_panic_of_the_package_is_an_error(tmp_path):
    theirs = QUICK["gpt2"]()
    stripping = tokenizers.AddedToken("x", rstrip=True, normalized=False)
    theirs.add_tokens([stripping, tokenizers.AddedToken("\t", lstrip=True, normalized=False)])
    with pytest.raises(ValueError, match=r"the tokenizers package failed on a text \(AddedVocabulary"):
        load_tokenizer(save(tmp_path, theirs)).encode_batch(["a cow  x\t b"])


def test_file_directory_and_object_are_equivalent(tmp_path):
    theirs = QUICK["llama3"]()
    save(tmp_path, theirs, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    for source in (tmp_path, str(tmp_path), tmp_path / "tokenizer.json"):
        ours = load_tokenizer(source)
        assert same(ours, theirs)
        assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id, ours.prefix_token_id) == (0, 1, 3, 0)
        assert ours.name == str(source)
        assert ours.vocab_size == theirs.get_vocab_size()
    assert same(load_tokenizer(theirs), theirs)
    fast = load_tokenizer(Fast(theirs, bos_token="<s>", eos_token="</s>"))
    assert same(fast, theirs)
    assert (fast.name, fast.model_max_length, fast.prefix_text) == ("some/model", 512, "<s>")


def test_special_tokens_without_a_role_are_a_list():
    theirs = QUICK["llama3"]()
    theirs.add_special_tokens(["<x>"])
    ours = load_tokenizer(Fast(theirs, bos_token="<s>", additional_special_tokens=["<x>"]))
    text = "it's an <x> in a box"
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text).ids) == "it's an  in a box"


def test_settings_of_a_loaded_tokenizer_can_be_changed():
    ours = load_tokenizer(QUICK["llama3"](), prefix_token_id=1)
    assert load_tokenizer(ours) is ours
    assert load_tokenizer(ours, prefix_token_id=1) is ours
    other = load_tokenizer(ours, add_bos_token=False)
    assert other.prefix_token_id == 1
    assert not other.adds_special_tokens


def test_hub_names_are_read_from_the_cache(tmp_path):
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save(snapshot, QUICK["gpt2"](), {"eos_token": "</s>"})
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    code = (
        "import sys; from windrow.tokens import load_tokenizer;"
        "tokenizer = load_tokenizer('some/model', cache_dir=sys.argv[1], hf_access_token='secret');"
        "print(tokenizer.name, tokenizer.eos_token_id, tokenizer.encode('The cow'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == f"some/model 1 {QUICK['gpt2']().encode('The cow').ids}"


def test_object_with_encode():
    with pytest.warns(
        UserWarning, match=r"tokenizer 'Words' encodes in Python, one text at a time"
    ) as caught:
        ours = load_tokenizer(Words(), prefix_token_id=7)
    assert len(caught) == 1
    assert ours.encode("ab") == [97, 98]
    assert ours.vocab_size is None
    segments = loglikelihood_segments(ours, [("ab ", "c"), ("", "d")])
    assert segments.tokens.tolist() == [97, 98, 32, 99, 7, 100]
    assert segments.score_starts.tolist() == [2, 1]
    with pytest.raises(TypeError, match="has no decode"):
        ours.decode([97])


def test_object_with_more_attributes():
    with pytest.warns(UserWarning, match="encodes in Python"):
        ours = load_tokenizer(Rich())
    assert (ours.bos_token_id, ours.eos_token_id, ours.prefix_token_id) == (2, 3, 2)
    assert (ours.vocab_size, ours.model_max_length) == (200_000, 64)
    assert ours.encode("ab") == [2, 97, 98]
    assert ours.encode("\x02ab") == [2, 97, 98]
    assert ours.encode("ab", add_special_tokens=False) == [97, 98]
    assert ours.decode([2, 97, 3, 98]) == "ab"
    assert ours.decode([2, 97], skip_special_tokens=False) == "\x02a"
    assert ours.apply_chat_template([{"role": "user", "content": "hi"}]) == "hi"
    with pytest.warns(UserWarning, match="encodes in Python"):
        assert load_tokenizer(Rich()).fingerprint == ours.fingerprint


class Broken(Words):
    """Its results are not token ids."""

    def __init__(self, result):
        self.result = result

    def encode(self, text):
        return self.result if text == "bad" else [1]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1, -1], r"tokenizer.encode returned the token id -1; expected 0 to 2147483647"),
        ([2**31], r"tokenizer.encode returned the token id 2147483648; expected 0 to 2147483647"),
        (["a"], r"tokenizer.encode returned \['a'\]; expected token ids \(integers\)"),
    ],
)
def test_results_that_are_not_token_ids_are_refused(result, message):
    with pytest.warns(UserWarning, match="encodes in Python"):
        ours = load_tokenizer(Broken(result))
    with pytest.raises((TypeError, ValueError), match=message):
        ours.encode("bad")


@pytest.mark.parametrize("source", [None, 7, object(), ["gpt2"]])
def test_values_that_are_not_tokenizers_are_refused(source):
    with pytest.raises(TypeError, match=r"tokenizer must be a path.* not (NoneType|int|object|list)"):
        load_tokenizer(source)


def test_class_instead_of_an_instance_is_refused():
    with pytest.raises(TypeError, match=r"tokenizer is the class Words; pass an instance, such as Words\(\)"):
        load_tokenizer(Words)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json; to write one with transformers"):
        load_tokenizer(tmp_path)
    for source in (tmp_path / "absent", str(tmp_path / "absent.json"), "absent.json", "a b"):
        with pytest.raises(
            FileNotFoundError, match=r"is not a tokenizer\.json, a directory with one, or a name"
        ):
            load_tokenizer(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", r"cannot be loaded: .*line 1"),
        (b"[]", "cannot be loaded"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b'{"model": {"type": "Magic"}}', "cannot be loaded"),
    ],
)
def test_files_that_are_not_tokenizers_are_refused(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_unknown_components_are_refused(tmp_path):
    described = json.loads(QUICK["gpt2"]().to_str())
    described["pre_tokenizer"] = {"type": "Telepathy"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_invalid_configurations_are_refused(tmp_path, content):
    save(tmp_path, QUICK["gpt2"]())
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"tokenizer_config\.json (is not JSON|must hold a JSON object, not list)"
    ):
        load_tokenizer(tmp_path)


def test_tokenizers_with_dropout_are_refused():
    with pytest.raises(ValueError, match=r"has a dropout of 0\.1.*set it to null"):
        load_tokenizer(byte_bpe(dropout=0.1))


def test_prefix_token_must_be_a_token():
    with pytest.raises(ValueError, match=r"prefix_token_id is 1500; the token ids of .* are 0 to 1499"):
        load_tokenizer(QUICK["gpt2"](), prefix_token_id=1500)


def test_stored_truncation_and_padding_are_ignored(tmp_path):
    theirs = QUICK["llama3"]()
    theirs.enable_truncation(3)
    theirs.enable_padding(pad_token="<pad>", pad_id=3, length=9)
    ours = load_tokenizer(save(tmp_path, theirs, {}))
    theirs.no_truncation()
    theirs.no_padding()
    assert same(ours, theirs)
    assert ours.pad_token_id == 3


def test_tokens_named_in_the_configuration_become_special(tmp_path):
    config = {"bos_token": {"content": "<|begin|>", "lstrip": False}, "eos_token": "<|end|>"}
    config |= {"additional_special_tokens": ["<extra>"]}
    ours = load_tokenizer(save(tmp_path, QUICK["gpt2"](), config))
    assert (ours.bos_token_id, ours.eos_token_id) == (1500, 1501)
    assert ours.encode("a<|end|>b<extra>")[1::2] == [1501, 1502]
    assert ours.decode(ours.encode("a<|end|>b<extra>")) == "ab"
    assert ours.vocab_size == 1503


def test_special_tokens_map_of_older_models(tmp_path):
    save(
        tmp_path,
        QUICK["gpt2"](),
        {"model_max_length": 1e30},
        special_tokens_map={"eos_token": {"content": "</s>"}},
    )
    ours = load_tokenizer(tmp_path)
    assert ours.eos_token_id == 1
    assert ours.model_max_length is None


def test_special_tokens_map_applies_if_no_tokens_are_listed(tmp_path):
    config = {"bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["grass"]}
    special = {"bos_token": "</s>", "pad_token": "<pad>", "additional_special_tokens": ["cow"]}
    save(tmp_path, QUICK["gpt2"](), config, special_tokens_map=special)
    ours = load_tokenizer(tmp_path)
    assert (ours.bos_token_id, ours.pad_token_id, ours.vocab_size) == (1, 3, 1501)
    config["added_tokens_decoder"] = {"0": {"content": "<s>", "special": True}}
    ours = load_tokenizer(save(tmp_path, QUICK["gpt2"](), config))
    assert (ours.bos_token_id, ours.pad_token_id, ours.vocab_size) == (0, None, 1501)


def test_listed_token_replaces_the_tokenizers(tmp_path):
    theirs = QUICK["gpt2"]()
    theirs.add_tokens([tokenizers.AddedToken("<tool>", lstrip=True)])
    listed = {"1500": {"content": "<tool>", "special": True, "normalized": False}}
    ours = load_tokenizer(save(tmp_path, theirs, {"added_tokens_decoder": listed}))
    assert len(ours.encode(" <tool>")) == 2  # the space is a separate token
    assert ours.decode(ours.encode("a<tool>b")) == "ab"


def test_existing_named_token_is_unchanged(tmp_path):
    theirs = QUICK["gpt2"]()
    theirs.add_tokens(["<tool>"])
    ours = load_tokenizer(save(tmp_path, theirs, {"additional_special_tokens": ["<tool>"]}))
    assert ours.decode(ours.encode("a<tool>b")) == "a<tool>b"


def test_tokens_of_older_files_and_model_specific_roles(tmp_path):
    added = {"<old>": 1500, "an old word": 1501}
    config = {"eos_token": "<old>", "image_token": "<image>", "extra_special_tokens": {"audio": "<audio>"}}
    ours = load_tokenizer(save(tmp_path, QUICK["gpt2"](), config, added_tokens=added))
    assert ours.encode("<old>an old word<image><audio>") == [1500, 1501, 1502, 1503]
    assert ours.decode([1500, 1501, 1502, 1503]) == "an old word"


def test_special_tokens_in_texts_are_split_if_configured(tmp_path):
    theirs = QUICK["llama3"]()
    ours = load_tokenizer(save(tmp_path, theirs, {"split_special_tokens": True}))
    theirs.encode_special_tokens = True
    assert ours.encode("a<s>b") == theirs.encode("a<s>b").ids
    assert ours.fingerprint != load_tokenizer(QUICK["llama3"]()).fingerprint
    assert load_tokenizer(theirs).encode("a<s>b") == theirs.encode("a<s>b").ids


@pytest.mark.parametrize(
    ("kind", "argument", "configured", "expected"),
    [
        ("gpt2", None, None, [False, False]),
        ("gpt2", True, None, [True, False]),
        ("gpt2", False, True, [False, False]),
        ("llama3", None, None, [True, False]),
        ("llama3", False, None, [False, False]),
        ("llama3", True, False, [True, False]),
        ("llama3", None, True, [True, False]),
    ],
)
def test_add_bos_token(tmp_path, kind, argument, configured, expected):
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    config |= {} if configured is None else {"add_bos_token": configured}
    ours = load_tokenizer(save(tmp_path, QUICK[kind](), config), add_bos_token=argument)
    plain = ours.encode("cow", add_special_tokens=False)
    assert [ours.encode(text) == [0, *plain] for text in ("cow", "<s>cow")] == [expected[0], True]


@pytest.mark.parametrize(
    ("kind", "configured"),
    [
        ("gpt2", {"add_bos_token": True}),
        ("llama3", {"add_bos_token": False}),
        ("gpt2", {"add_eos_token": True}),
    ],
)
def test_tokenizer_json_takes_precedence_with_a_warning(tmp_path, kind, configured):
    theirs = QUICK[kind]()
    save(tmp_path, theirs, {"bos_token": "<s>", "eos_token": "</s>", **configured})
    ((key, value),) = configured.items()
    with pytest.warns(UserWarning, match=f"tokenizer_config.json says {key}={value}"):
        ours = load_tokenizer(tmp_path)
    assert same(ours, theirs)


def test_add_bos_token_argument_replaces_the_post_processor(tmp_path):
    theirs = QUICK["gpt2"]()
    theirs.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    save(tmp_path, theirs, {"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": True})
    plain = load_tokenizer(tmp_path, add_bos_token=False).encode("cow")
    assert load_tokenizer(tmp_path, add_bos_token=True).encode("cow") == [0, *plain]
    assert load_tokenizer(tmp_path).encode("cow") == [*plain, 1]


def test_template_around_texts():
    theirs = QUICK["gpt2"]()
    theirs.post_processor = processors.TemplateProcessing(
        single="<s> <s> $A </s>", pair="$A $B", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert same(load_tokenizer(theirs), theirs)


def test_fallback_is_announced_once_and_matches():
    theirs = SLOW["unigram"]()
    with pytest.warns(UserWarning, match="uses the tokenizers package, which is slower") as caught:
        ours = load_tokenizer(theirs)
    assert len(caught) == 1
    assert same(ours, theirs)


def test_cleanup_of_decoded_spaces(tmp_path):
    words = ["[UNK]", "do", "n't", "stop", ",", "now", "!"]
    theirs = tokenizers.Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, "[UNK]"))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    save(tmp_path, theirs, {"clean_up_tokenization_spaces": True})
    assert load_tokenizer(tmp_path).decode([1, 2, 3, 4, 5, 6]) == "don't stop, now!"
    assert load_tokenizer(theirs).decode([1, 2, 3, 4, 5, 6]) == "do n't stop , now !"
