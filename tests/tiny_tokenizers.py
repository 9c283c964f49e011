"""Tokenizers with small hand-written vocabularies, and their folders in the Hugging Face format."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

TEXTS = [
    "",
    " cow",
    "  cow  eats",
    "The cow's 42 hay",
    "a\n\n b",
    "cafe\u0301 caf\u00e9",
    "<s>[INST] cow</s> x",
    "cow<|endoftext|>cow",
    "COW , hay .",
    "\u65e5 \u0939\u093f",
]
"""The texts whose ids are recorded."""

MERGES = [("c", "o"), ("co", "w"), ("h", "a"), ("ha", "y"), ("e", "a"), ("t", "s"), ("ea", "ts"), ("4", "2")]


def _vocabulary(special, letters, merges):
    return {text: id for id, text in enumerate([*special, *letters, *(a + b for a, b in merges)])}


def byte_pairs(bos=False):
    """Byte-level BPE without normalization; runs of digits stay together."""
    merges = [*MERGES, ("Ġ", "cow"), ("Ġ", "hay"), ("Ċ", "Ċ")]
    special = ["<s>", "</s>", "<|endoftext|>"]
    vocab = _vocabulary(special, sorted(pre_tokenizers.ByteLevel.alphabet()), merges)
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
        )
    return made


def marked_pairs(inst=False):
    """BPE as in the first Llamas: spaces are marked, and unknown characters become bytes."""
    merges = [*MERGES, ("▁", "cow"), ("▁", "hay"), ("▁", "▁")]
    letters = [*(f"<0x{byte:02X}>" for byte in range(256)), *"▁'abcdefhinostwxyTCOW42,."]
    vocab = _vocabulary(["<unk>", "<s>", "</s>"], letters, merges)
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    if inst:
        made.add_tokens([AddedToken("[INST]", normalized=True)])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return made


def pieces():
    """Unigram with marked spaces."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    likely = {"▁cow": -3.0, "▁hay": -3.5, "cow": -4.0, "▁": -2.0, "▁The": -5.0, "eats": -5.5}
    letters = {letter: -8.0 - place / 16 for place, letter in enumerate("abcdehinostwxyTCOW42,.'")}
    vocab = [*((text, 0.0) for text in special), *likely.items(), *letters.items()]
    made = Tokenizer(models.Unigram(vocab, unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(special)
    return made


def words():
    """WordPiece."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = _vocabulary(
        special, ["cow", "The", "the", "hay", "##s", "a", "b", "x", "4", "##2", "'", ",", "."], []
    )
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(special)
    return made


KINDS = {
    "byte_pairs": byte_pairs,
    "byte_pairs_bos": lambda: byte_pairs(bos=True),
    "marked_pairs": marked_pairs,
    "marked_pairs_inst": lambda: marked_pairs(inst=True),
    "pieces": pieces,
    "words": words,
}


def save_folder(folder, kind, model, config):
    """Writes a tokenizer's files; ``None`` leaves one out."""
    KINDS[kind]().save(str(folder / "tokenizer.json"))
    for name, content in (("config.json", model), ("tokenizer_config.json", config)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder
