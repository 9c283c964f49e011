"""Determines the class that transformers 5.24 uses for a tokenizer's files.

The files name a class, and transformers registers a class for the type of their model.
Which of the two is used depends on both:

```text
model_type   registered          named                     used
qwen2        Qwen2Tokenizer      PreTrainedTokenizerFast   Qwen2Tokenizer, a type known for wrong names
qwen3        Qwen2Tokenizer      GPT2Tokenizer             GPT2Tokenizer
qwen3        Qwen2Tokenizer      PreTrainedTokenizerFast   the generic one
mamba        GPTNeoXTokenizer    nothing                   GPTNeoXTokenizer
mistral      the generic one     LlamaTokenizer            the generic one
```

The generic class uses ``tokenizer.json`` unchanged; most others rebuild it, see `windrow.tokens.recipes`.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from windrow.tokens.recipes import RECIPES
from windrow.tokens.registered import AS_IS, GENERIC, MISNAMED, REGISTERED, UNCOMMON
from windrow.tokens.source import TokenizerFiles


def class_of(files: TokenizerFiles) -> str:
    """The name of the class, without ``Fast``, or `GENERIC` if ``tokenizer.json`` is used unchanged.

    >>> class_of(TokenizerFiles("a mamba", "{}", model_type="mamba"))
    'GPTNeoXTokenizer'
    """
    registered = REGISTERED.get(files.model_type or "")
    named = files.config.get("tokenizer_class")
    custom = files.config.get("auto_map")
    if isinstance(custom, Mapping):
        custom = custom.get("AutoTokenizer")
    if not custom and any(fnmatchcase(files.name.lower(), pattern) for pattern in AS_IS):
        return GENERIC
    if not named:
        return registered or GENERIC
    named = str(named).removesuffix("Fast")
    if not custom:
        misnamed = bool({files.model_type, files.model_name} & MISNAMED)
        if named == "LlamaTokenizer" and not misnamed and '"ByteLevel"' in files.json:
            return GENERIC  # a byte-level tokenizer, which that class does not support
        if registered == GENERIC:
            return GENERIC
        if registered is not None and misnamed:
            named = registered
    return named if named in RECIPES or named in UNCOMMON else GENERIC
