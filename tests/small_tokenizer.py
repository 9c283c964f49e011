"""A byte-level tokenizer in the Hugging Face format with one token per byte."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BOS, EOS = 256, 257


def write_tokenizer(folder: Path, *, bos: bool = True, eos: bool = True) -> str:
    """Writes it to a folder, with or without a BOS and an EOS token; token ``b`` is byte ``b``."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    order = sorted(alphabet, key=_byte)
    tokenizer = Tokenizer(models.BPE(vocab={letter: _byte(letter) for letter in order}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<bos>", "eos_token": "<eos>"}
    tokenizer.add_special_tokens(list(special.values()))
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {role: text for role, text in special.items() if {"bos_token": bos, "eos_token": eos}[role]}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return str(folder)


def _byte(letter: str) -> int:
    """The byte that a letter of GPT-2's byte alphabet stands for."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if ord(letter) in printable:
        return ord(letter)
    return [byte for byte in range(256) if byte not in printable][ord(letter) - 256]
