"""Describes how classes of transformers 5.24 build their tokenizer, regardless of ``tokenizer.json``.

Such a class uses the vocabulary, the merges and the added tokens of the file, and usually its post-processor,
but has its own model options, normalizer, pre-tokenizer and decoder. A `Recipe` describes these in the format
of ``tokenizer.json``; some depend on settings in ``tokenizer_config.json``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Config = Mapping[str, Any]

Pipeline = tuple[Json | None, Json | None, Json | None]
"""A normalizer, a pre-tokenizer and a decoder."""


@dataclass(frozen=True)
class Recipe:
    """How one class builds its tokenizer.

    Attributes:
        kind: The type of its model: ``"BPE"``, ``"WordPiece"`` or ``"Unigram"``.
        pipeline: Builds its components from the configuration and the file's character map.
        options: The model's options.
        tokens: The default special tokens, by role.
        unknown: Whether the model gets the unknown token.
        template: The tokens around a text, as roles next to ``"$A"``; ``None`` uses the file's.
        template_counts: Whether the template takes precedence over the file's post-processor.
        bos: The default of ``add_bos_token``; ``None`` leaves it to the file.
        extra: Additional special tokens if the configuration names none.
        again: Whether all special tokens are added again at the end: ``"bare"``, without their flags from
            the files, or as ``"special"`` ones.
        strips_mask: Whether the mask token strips the white space before it.
    """

    kind: str
    pipeline: Callable[[Config, str | None], Pipeline]
    options: Config = field(default_factory=dict)
    tokens: Config = field(default_factory=dict)
    unknown: bool = False
    template: tuple[str, ...] | None = None
    template_counts: bool = True
    bos: bool | None = None
    extra: tuple[str, ...] = ()
    again: Literal["bare", "special"] | None = None
    strips_mask: bool = False


def _sequence(kind: str, parts: list[Json | None]) -> Json | None:
    there = [part for part in parts if part is not None]
    return {"type": "Sequence", kind: there} if there else None


def _replace(pattern: str, content: str, how: str = "String") -> Json:
    return {"type": "Replace", "pattern": {how: pattern}, "content": content}


def _split(pattern: Json, behavior: str) -> Json:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def _byte_level(prefix: bool = False, regex: bool = True) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def _metaspace(scheme: str, split: bool = True) -> Json:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def _table(charsmap: str | None) -> Json | None:
    return None if charsmap is None else {"type": "Precompiled", "precompiled_charsmap": charsmap}


_NFC = {"type": "NFC"}
_ONE_SPACE = _replace(" {2,}", " ", "Regex")
_BYTES_AS_TEXT = [_replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
_NO_FIRST_SPACE = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def _bytes_pipeline(
    normalizer: Json | None = None, before: Json | None = None, prefix: bool = False, regex: bool = True
) -> Callable[[Config, str | None], Pipeline]:
    """Byte-level BPE, optionally with a normalizer and an additional split before it."""

    def pipeline(config: Config, _: str | None) -> Pipeline:
        last = _byte_level(bool(config.get("add_prefix_space", prefix)), regex)
        pre_tokenizer = last if before is None else _sequence("pretokenizers", [before, last])
        return normalizer, pre_tokenizer, _byte_level(True)

    return pipeline


def _qwen(letters: str) -> Callable[[Config, str | None], Pipeline]:
    """Qwen's split pattern with the given class of letters."""
    others = letters.strip("[]")
    pattern = (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?{letters}+|\p{{N}}|"
        rf" ?[^\s{others}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return _bytes_pipeline(_NFC, _split({"Regex": pattern}, "Isolated"), regex=False)


def _llama(config: Config, _: str | None) -> Pipeline:
    """A leading space is added once before a text, not before each piece between special tokens."""
    prefix = config.get("add_prefix_space")
    prefix = prefix is None or bool(prefix)
    scheme = ("always" if config.get("legacy") else "first") if prefix else "never"
    steps = [*_BYTES_AS_TEXT, *([_NO_FIRST_SPACE] if prefix else [])]
    return None, _metaspace(scheme, split=False), _sequence("decoders", [*steps])


def _code_llama(config: Config, _: str | None) -> Pipeline:
    prefix = config.get("add_prefix_space")
    scheme = "first" if prefix is None or prefix else "never"
    steps = [*_BYTES_AS_TEXT, _NO_FIRST_SPACE]
    return None, _metaspace(scheme, split=False), _sequence("decoders", [*steps])


def _gemma(_: Config, __: str | None) -> Pipeline:
    pre_tokenizer = _split({"String": " "}, "MergedWithPrevious")
    return _replace(" ", "▁"), pre_tokenizer, _sequence("decoders", [*_BYTES_AS_TEXT])


def _siglip(config: Config, charsmap: str | None) -> Pipeline:
    normalizer, pre_tokenizer, decoder = _gemma(config, charsmap)
    return _sequence("normalizers", [{"type": "Lowercase"}, normalizer]), pre_tokenizer, decoder


def _words(decoder: Json, **fixed: Any) -> Callable[[Config, str | None], Pipeline]:
    """BERT's words; the configuration sets those options of its normalizer that are not ``fixed``."""

    def pipeline(config: Config, _: str | None) -> Pipeline:
        options = {
            "clean_text": True,
            "handle_chinese_chars": bool(config.get("tokenize_chinese_chars", True)),
            "strip_accents": config.get("strip_accents"),
            "lowercase": bool(config.get("do_lower_case", True)),
        }
        return {"type": "BertNormalizer", **options, **fixed}, {"type": "BertPreTokenizer"}, decoder

    return pipeline


def _pieces(
    *before: Json,
    table: str = "last",
    words: bool = False,
    otherwise: str = "never",
    after: tuple[Json, ...] = (),
) -> Callable[[Config, str | None], Pipeline]:
    """SentencePiece's ``Metaspace`` after some replacements.

    The file's character map is applied ``first``, ``last`` or not at all (``none``).
    """

    def pipeline(config: Config, charsmap: str | None) -> Pipeline:
        replacements = _table(charsmap) if table != "none" else None
        parts = [replacements, *before] if table == "first" else [*before, replacements]
        scheme = "always" if config.get("add_prefix_space", True) else otherwise
        marks = [{"type": "WhitespaceSplit"}, _metaspace(scheme)] if words else [*after, _metaspace(scheme)]
        pre_tokenizer = marks[0] if len(marks) == 1 else _sequence("pretokenizers", [*marks])
        return _sequence("normalizers", parts), pre_tokenizer, _metaspace(scheme)

    return pipeline


_QUOTES = (_replace("``", '"'), _replace("''", '"'))
_PLAIN_SPACES = (
    _replace(r"\s{2,}|[\n\r\t]", " ", "Regex"),
    _NFC,
    {"type": "Strip", "strip_left": False, "strip_right": True},
)


def _always(pipeline: Callable[[Config, str | None], Pipeline]) -> Callable[[Config, str | None], Pipeline]:
    return lambda config, charsmap: pipeline({**config, "add_prefix_space": True}, charsmap)


def _accents(
    keep: bool | None, lower: bool, scheme_from_config: bool, *before: Json, words: bool = True
) -> Callable[[Config, str | None], Pipeline]:
    """Normalized quotes; accents and case are kept or removed as the configuration says."""

    def pipeline(config: Config, charsmap: str | None) -> Pipeline:
        parts = [*_QUOTES, *before]
        if keep is None or not config.get("keep_accents", keep):
            parts += [{"type": "NFKD"}, {"type": "StripAccents"}]
        if config.get("do_lower_case", lower):
            parts.append({"type": "Lowercase"})
        config = config if scheme_from_config else {**config, "add_prefix_space": True}
        return _pieces(*parts, words=words)(config, charsmap)

    return pipeline


def _deberta_pieces(config: Config, charsmap: str | None) -> Pipeline:
    lower: tuple[Json, ...] = ({"type": "Lowercase"},) if config.get("do_lower_case") else ()
    marks: tuple[Json, ...] = (
        ({"type": "Punctuation", "behavior": "Isolated"},) if config.get("split_by_punct") else ()
    )
    return _pieces(*lower, *_PLAIN_SPACES, table="none", otherwise="first", after=marks)(config, charsmap)


def _pegasus(config: Config, charsmap: str | None) -> Pipeline:
    before = (_ONE_SPACE,) if charsmap is not None else (_replace(r"\n", " ", "Regex"), _ONE_SPACE)
    return _always(_pieces(*before, table="first"))(config, charsmap)


def _reformer(config: Config, charsmap: str | None) -> Pipeline:
    before = (_ONE_SPACE,) if charsmap is not None else ()
    return _always(_pieces(*before, table="first"))(config, charsmap)


def _roles(**tokens: str) -> dict[str, Any]:
    return {f"{role}_token": text for role, text in tokens.items()}


_END = "<|endoftext|>"
_ENDS = _roles(unk=_END, bos=_END, eos=_END)
_ROBERTA = _roles(bos="<s>", eos="</s>", sep="</s>", cls="<s>", unk="<unk>", pad="<pad>", mask="<mask>")
_BERT = _roles(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
_ALBERT = _roles(bos="[CLS]", eos="[SEP]", unk="<unk>", sep="[SEP]", pad="<pad>", cls="[CLS]", mask="[MASK]")
_LLAMA = _roles(unk="<unk>", bos="<s>", eos="</s>")
_GEMMA = _roles(unk="<unk>", bos="<bos>", eos="<eos>", pad="<pad>", mask="<mask>")
_FALLBACK = {"fuse_unk": True, "byte_fallback": True}
_AROUND = ("cls_token", "$A", "sep_token")
_INFILLING = {
    "prefix": "▁<PRE>",
    "middle": "▁<MID>",
    "suffix": "▁<SUF>",
    "eot": "▁<EOT>",
    "fill": "<FILL_ME>",
}

RECIPES: dict[str, Recipe] = {
    # Byte-level BPE.
    "GPT2Tokenizer": Recipe("BPE", _bytes_pipeline(), tokens={**_ENDS, "pad_token": None}),
    "CodeGenTokenizer": Recipe("BPE", _bytes_pipeline(), tokens={**_ENDS, "pad_token": None}),
    "GPTNeoXTokenizer": Recipe(
        "BPE", _bytes_pipeline(_NFC), tokens={**_ENDS, "pad_token": "<|padding|>"}, bos=False
    ),
    "Qwen2Tokenizer": Recipe(
        "BPE", _qwen(r"\p{L}"), tokens={**_ENDS, "bos_token": None, "pad_token": _END}, again="bare"
    ),
    "Qwen3_5Tokenizer": Recipe(
        "BPE", _qwen(r"[\p{L}\p{M}]"), tokens={**_ENDS, "bos_token": None, "pad_token": _END}
    ),
    "CohereTokenizer": Recipe(
        "BPE",
        _bytes_pipeline(_NFC, {"type": "Digits", "individual_digits": True}),
        tokens=_roles(
            unk="<UNK>",
            bos="<BOS_TOKEN>",
            eos="<|END_OF_TURN_TOKEN|>",
            pad="<PAD>",
            cls="<CLS>",
            sep="<SEP>",
            mask="<MASK_TOKEN>",
        ),
        again="special",
    ),
    "RobertaTokenizer": Recipe("BPE", _bytes_pipeline(), tokens=_ROBERTA, template=_AROUND),
    "DebertaTokenizer": Recipe(
        "BPE",
        _bytes_pipeline(),
        tokens={**_ALBERT, "unk_token": "[UNK]", "pad_token": "[PAD]"},
        template=_AROUND,
    ),
    "BlenderbotTokenizer": Recipe("BPE", _bytes_pipeline(prefix=True), tokens=_ROBERTA, strips_mask=True),
    # BPE with byte fallback.
    "LlamaTokenizer": Recipe("BPE", _llama, _FALLBACK, tokens=_LLAMA),
    "CodeLlamaTokenizer": Recipe(
        "BPE",
        _code_llama,
        _FALLBACK,
        tokens={**_LLAMA, **_roles(**_INFILLING)},
        unknown=True,
        bos=True,
        extra=tuple(_INFILLING.values()),
    ),
    "GemmaTokenizer": Recipe("BPE", _gemma, _FALLBACK, tokens=_GEMMA, unknown=True),
    "Siglip2Tokenizer": Recipe("BPE", _siglip, _FALLBACK, tokens=_GEMMA, unknown=True),
    # Words.
    "OpenAIGPTTokenizer": Recipe(
        "BPE",
        _words(
            {"type": "BPEDecoder", "suffix": "</w>"},
            handle_chinese_chars=True,
            strip_accents=None,
            lowercase=True,
        ),
        {"end_of_word_suffix": "</w>"},
        tokens=_roles(unk="<unk>"),
        unknown=True,
    ),
    "BertTokenizer": Recipe(
        "WordPiece",
        _words({"type": "WordPiece", "prefix": "##", "cleanup": True}),
        tokens=_BERT,
        unknown=True,
        template=_AROUND,
    ),
    "MPNetTokenizer": Recipe(
        "WordPiece",
        _words({"type": "WordPiece", "prefix": "##", "cleanup": True}),
        tokens={**_ROBERTA, "unk_token": "[UNK]"},
        unknown=True,
        template=_AROUND,
        strips_mask=True,
    ),
    # Unigram and other SentencePiece models.
    "T5Tokenizer": Recipe(
        "Unigram",
        _always(_pieces(words=True)),
        {"unk_id": 2},
        tokens=_roles(eos="</s>", unk="<unk>", pad="<pad>"),
        template=("$A", "eos_token"),
        extra=tuple(f"<extra_id_{number}>" for number in range(100)),
    ),
    "XLMRobertaTokenizer": Recipe(
        "Unigram",
        _pieces(words=True),
        {"unk_id": 3},
        tokens=_ROBERTA,
        template=("bos_token", "$A", "eos_token"),
    ),
    "XGLMTokenizer": Recipe(
        "Unigram",
        _pieces(_ONE_SPACE, table="first"),
        {"unk_id": 3},
        tokens={role: text for role, text in _ROBERTA.items() if role != "mask_token"},
        template=("eos_token", "$A"),
        extra=tuple(f"<madeupword{number}>" for number in range(7)),
    ),
    "AlbertTokenizer": Recipe(
        "Unigram",
        _accents(False, True, True),
        {"unk_id": 1},
        tokens=_ALBERT,
        template=_AROUND,
        template_counts=False,
    ),
    "RemBertTokenizer": Recipe(
        "Unigram",
        _accents(True, False, True, _ONE_SPACE, words=False),
        {"unk_id": 2},
        tokens=_ALBERT,
        template=_AROUND,
        again="special",
    ),
    "XLNetTokenizer": Recipe(
        "Unigram",
        _accents(None, False, False),
        {"unk_id": 0},
        tokens=_roles(
            bos="<s>", eos="</s>", unk="<unk>", sep="<sep>", pad="<pad>", cls="<cls>", mask="<mask>"
        ),
        template=("$A", "sep_token", "cls_token"),
        extra=("<eop>", "<eod>"),
        strips_mask=True,
    ),
    "BarthezTokenizer": Recipe(
        "Unigram", _pieces(*_PLAIN_SPACES, table="none"), {"unk_id": 3}, tokens=_ROBERTA, strips_mask=True
    ),
    "CamembertTokenizer": Recipe(
        "Unigram",
        _pieces(words=True),
        tokens=_ROBERTA,
        unknown=True,
        template=("bos_token", "$A", "eos_token"),
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        strips_mask=True,
    ),
    "PegasusTokenizer": Recipe(
        "Unigram",
        _pegasus,
        tokens=_roles(pad="<pad>", eos="</s>", unk="<unk>", mask="<mask_2>"),
        unknown=True,
        template=("$A", "eos_token"),
        extra=("<mask_1>", *(f"<unk_{number}>" for number in range(2, 103))),
    ),
    "ReformerTokenizer": Recipe(
        "BPE",
        _reformer,
        {"fuse_unk": True},
        tokens=_roles(eos="</s>", unk="<unk>"),
        unknown=True,
        again="special",
    ),
    "DebertaV2Tokenizer": Recipe(
        "Unigram",
        _deberta_pieces,
        {"unk_id": 1},
        tokens={**_ALBERT, "unk_token": "[UNK]", "pad_token": "[PAD]"},
        unknown=True,
        template=_AROUND,
    ),
}
"""The classes that are rebuilt here, by name."""

for _alias, _name in {
    "BartTokenizer": "RobertaTokenizer",
    "LEDTokenizer": "RobertaTokenizer",
    "MvpTokenizer": "RobertaTokenizer",
    "DistilBertTokenizer": "BertTokenizer",
    "LxmertTokenizer": "BertTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "SqueezeBertTokenizer": "BertTokenizer",
}.items():
    RECIPES[_alias] = RECIPES[_name]
