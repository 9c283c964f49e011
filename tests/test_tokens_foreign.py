"""Tokenizers of tiktoken and SentencePiece work directly; windrow does not depend on these packages."""

import io
import pickle

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import windrow
from small_model import prefix_model
from windrow.tokens import (
    generation_prompts,
    load_tokenizer,
    loglikelihood_segments,
    rolling_segments,
)

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")

END = 258


def encoding(**special):
    """An encoding with a token for each byte, ``ab``, ``cd``, and special tokens."""
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"cd": 257}
    return tiktoken.Encoding(name="tiny", pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens=special)


@pytest.fixture
def tiny():
    return load_tokenizer(encoding(**{"<|endoftext|>": END, "<|im_end|>": 259}))


@pytest.fixture(scope="session")
def pieces():
    """Trains a processor on a few words, with SentencePiece's own options."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentences = ["make hay while the sun shines", "the cow eats hay", "a cow sleeps"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=26, minloglevel=2, pad_id=3
    )
    return lambda **options: sentencepiece.SentencePieceProcessor(model_proto=model.getvalue(), **options)


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("data",))


def test_tiktoken_encoding(tiny):
    assert (tiny.eos_token_id, tiny.bos_token_id, tiny.prefix_token_id, tiny.vocab_size) == (
        END,
        None,
        END,
        260,
    )
    assert tiny.encode("abcd") == [256, 257]
    assert tiny.decode([256, END, 259, 99]) == "abc"
    assert tiny.decode([256, END], skip_special_tokens=False) == "ab<|endoftext|>"
    assert pickle.loads(pickle.dumps(tiny)).fingerprint == tiny.fingerprint


def test_encoding_without_an_end_token():
    assert load_tokenizer(encoding()).eos_token_id is None


def test_generation_with_a_tiktoken_encoding(tiny):
    model = prefix_model(260, max_length=64)
    made = windrow.generate(
        model, tiny, ["ab cd", "x"], max_new_tokens=12, stop=["<|im_end|>", "zz"], sharding=one_device()
    )
    assert len(made) == 2
    assert all("<|endoftext|>" not in text for text in made)


def test_refused_texts_are_named(tiny):
    contexts = ["fine", "bad <|endoftext|>", "fine too"]
    with pytest.raises(
        ValueError, match=r"request 1: the tokenizer rejects its text \(ValueError: Encountered"
    ):
        generation_prompts(tiny, contexts, max_new_tokens=2)
    with pytest.raises(ValueError, match=r"texts\[1\]: the tokenizer rejects its text"):
        tiny.encode_batch(contexts)


def test_refused_texts_can_be_skipped(tiny):
    bad = "bad <|endoftext|>"
    pairs = [("fine", " a"), (bad, " a"), ("", bad), ("fine", bad), ("x", " b")]
    assert loglikelihood_segments(tiny, pairs, on_bad_request="skip").requests.tolist() == [0, 4]
    apart = loglikelihood_segments(tiny, pairs, on_bad_request="skip", encode_apart=True)
    assert apart.skipped.tolist() == [1, 2, 3]
    rolling = rolling_segments(tiny, ["a", bad, "b"], on_bad_request="skip")
    assert rolling.skipped.tolist() == [1]
    assert "the tokenizer rejects its text" in rolling.report.skipped[1]
    prompts = generation_prompts(tiny, [bad, "b"], max_new_tokens=2, on_bad_request="skip")
    assert prompts.requests.tolist() == [1]


def test_tokenizer_that_cannot_encode_plain_text_is_refused():
    class Broken:
        def encode(self, text):
            raise RuntimeError("no vocabulary")

    with pytest.raises(
        ValueError, match="'Broken' cannot encode the plain text 'a': RuntimeError: no vocabulary"
    ):
        load_tokenizer(Broken())


def test_character_level_vocabulary_is_accepted():
    class Characters:
        known = "\nTo be,rnt"

        def encode(self, text):
            return [self.known.index(character) for character in text]

        def decode(self, tokens):
            return "".join(self.known[token] for token in tokens)

    model = prefix_model(len(Characters.known), max_length=64)
    options = {"sharding": one_device()}
    scores = windrow.score(model, Characters(), [("To be, or", " not to be")], **options)
    assert scores.log_likelihoods.shape == (1,)
    generated = windrow.generate(model, Characters(), ["To be"], max_new_tokens=4, end_tokens=(), **options)
    assert len(generated.texts[0]) == 4
    with pytest.raises(
        ValueError, match=r"decode failed on 2 token ids from 3 to 10: IndexError: .* every token"
    ):
        load_tokenizer(Characters()).decode([3, 10])
    with pytest.raises(ValueError, match=r"request 1: the tokenizer rejects its text .*substring not found"):
        windrow.score(model, Characters(), [("To be", " or"), ("To be", " or what")], **options)


def test_sentencepiece_processor(pieces):
    theirs = pieces()
    ours = load_tokenizer(theirs)
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id, ours.vocab_size) == (1, 2, 3, 26)
    assert ours.encode("the cow") == theirs.encode("the cow")
    assert ours.decode([1, *theirs.encode("the cow"), 2]) == "the cow"
    assert ours.prefix_text is None  # it decodes to the empty string, with which every text starts
    segments = loglikelihood_segments(ours, [("", "hay")])
    assert segments.tokens.tolist() == [1, *theirs.encode("hay")]


def test_processor_adds_bos_on_request(pieces):
    plain = pieces().encode("the cow")
    adding = load_tokenizer(pieces(add_bos=True))
    assert adding.encode("the cow") == [1, *plain]
    assert adding.encode("the cow", add_special_tokens=False) == plain
    adding_bos = load_tokenizer(pieces(), add_bos_token=True)
    assert adding_bos.encode("the cow") == [1, *plain]
    assert load_tokenizer(pieces(add_bos=True), add_bos_token=True).encode("the cow") == [1, *plain]
    assert load_tokenizer(pieces(add_bos=True), add_bos_token=False).encode("the cow") == plain


def test_generation_with_a_processor(pieces):
    model = prefix_model(26, max_length=64)
    made = windrow.generate(
        model, pieces(), ["the cow", "hay"], max_new_tokens=8, stop=["</s>", "\n"], sharding=one_device()
    )
    assert len(made) == 2
