"""The tokenizers of the first Llamas, whose ``tokenizer.json`` transformers 5 does not take as it is.

Of a tokenizer of the class ``LlamaTokenizer`` it takes the vocabulary, the merges, the added tokens and
the post-processor. Spaces are marked by a pre-tokenizer of its own, once before a text, where the files
have a normalizer that does so before each piece between special tokens, and before a leading space too:

```text
text                        "<s>[INST] cow"             " cow"
tokenizer.json              <s> ▁[INST] ▁cow            ▁▁cow
LlamaTokenizer              <s> [INST] ▁cow             ▁cow
```
"""

import json
from typing import Any

from windrow.tokens.source import TokenizerFiles

_DEFAULTS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def as_transformers_takes(files: TokenizerFiles) -> TokenizerFiles:
    """The files themselves, or what the class makes of them where it is ``LlamaTokenizer``."""
    if str(files.config.get("tokenizer_class")).removesuffix("Fast") != "LlamaTokenizer":
        return files
    if files.model_type not in (None, "llama"):  # of others the tokenizer.json counts
        return files
    try:
        tokenizer = json.loads(files.json)
        usual = tokenizer["model"]["type"] == "BPE" and '"ByteLevel"' not in _pipeline(tokenizer)
    except (ValueError, TypeError, KeyError):
        return files  # whoever builds it says what is wrong
    if not usual:
        return files
    config = _DEFAULTS | files.config
    return TokenizerFiles(
        files.name, json.dumps(_rebuilt(tokenizer, config)), config, files.chat_template, files.model_type
    )


def _pipeline(tokenizer: dict[str, Any]) -> str:
    return json.dumps([tokenizer.get("pre_tokenizer"), tokenizer.get("decoder")])


def _rebuilt(tokenizer: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    prefix = config.get("add_prefix_space")
    scheme = "always" if config.get("legacy") else "first"
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix is None or prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    else:
        scheme = "never"
    added = [] if "added_tokens_decoder" in config else tokenizer.get("added_tokens", [])
    model = {name: part for name, part in tokenizer["model"].items() if name in ("type", "vocab", "merges")}
    return {
        **tokenizer,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False},
        "model": {**model, "fuse_unk": True, "byte_fallback": True},
        "decoder": {"type": "Sequence", "decoders": steps},
    }
