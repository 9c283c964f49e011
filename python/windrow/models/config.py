"""What a ``config.json`` says, taken field by field.

A score is only worth something if every setting that changes the computation
was obeyed. So a family's module *takes* each field it computes with, and when
it is done, fields that nobody took and that are not known to be harmless are
refused by name. A field that is null or false switches nothing on and passes.

>>> fields = Fields({"model_type": "x", "width": 4, "twist": 0.5}, Path("config.json"))
>>> fields.size("width")
4
>>> fields.finish(harmless=("model_type",))
Traceback (most recent call last):
    ...
ValueError: config.json: the field 'twist' (0.5) may change the computation and is not known here; known: \
model_type, width. Remove it if it is harmless, or bring the model yourself with factory=module:function
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

DEFAULT_MAX_LENGTH = 2048
"""The limit of a checkpoint where neither its configuration nor its tokenizer names one, as in HFLM."""

WAY_OUT = "bring the model yourself with factory=module:function"

_REQUIRED: Any = object()

_FILE = """
    architectures auto_map dtype torch_dtype model_type name_or_path transformers_version tokenizer_class
    finetuning_task task_specific_params unsloth_version unsloth_fixed is_llama_config
"""
_TOKENS_AND_GENERATION = """
    bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id prefix
    bad_words_ids begin_suppress_tokens do_sample diversity_penalty early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id
    forced_eos_token_id length_penalty max_length max_new_tokens min_length no_repeat_ngram_size
    num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values
    repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
"""
_TRAINING = """
    attention_dropout attn_pdrop embd_pdrop resid_pdrop hidden_dropout initializer_range
    gradient_checkpointing
"""
_RESULTS_AND_MEMORY = """
    chunk_size_feed_forward id2label label2id num_labels output_attentions output_hidden_states pretraining_tp
    problem_type return_dict torchscript use_bfloat16 use_cache
"""
_HARMLESS = frozenset((_FILE + _TOKENS_AND_GENERATION + _TRAINING + _RESULTS_AND_MEMORY).split())

_LENGTH_FIELDS = ("n_positions", "max_position_embeddings", "n_ctx")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; what is not one is a ``ValueError`` naming the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def stated_max_length(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a configuration states: its text configuration first, then itself.

    The order is that of lm_eval's Hugging Face backend: ``n_positions``,
    ``max_position_embeddings``, ``n_ctx``.

    >>> stated_max_length({"n_ctx": 3, "max_position_embeddings": 7})
    7
    >>> stated_max_length({"n_positions": 5, "text_config": {"n_ctx": 3}})
    3
    """
    text = config.get("text_config") or config
    for name in _LENGTH_FIELDS:
        if (value := text.get(name)) is not None:
            return int(value)
    return None


class Fields:
    """The fields of one ``config.json``, each asked for by the kind of value it must have."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.path = path
        self._values = values
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether the file has the field, be it null."""
        return name in self._values

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The field's value; ``default`` where it is absent or null."""
        self._taken.add(name)
        value = self._values.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ValueError(f"{self.path}: the field {name!r} is missing")
        return default

    def size(self, name: str, default: Any = _REQUIRED, *, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{self.path}: {name!r} must be a whole number of at least {least}, not {value!r}"
            )
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A number above 0."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{self.path}: {name!r} must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.path}: {name!r} must be true or false, not {value!r}")
        return value

    def choice(self, name: str, known: Collection[Any], default: Any = _REQUIRED) -> Any:
        """One of ``known``; anything else is computed by nobody here."""
        value = self.take(name, default)
        if value not in known:
            listed = ", ".join(str(each) for each in known)
            raise ValueError(f"{self.path}: {name!r} is {value!r}; known: {listed}. Else {WAY_OUT}")
        return value

    def finish(self, harmless: Collection[str] = ()) -> None:
        """Refuses what nobody took, unless it is harmless, null, false or empty."""
        known = self._taken | set(harmless) | _HARMLESS
        for name, value in self._values.items():
            off = value is None or value is False or value in ("", [], {})
            if off or name in known or name.startswith(("_", "transformers")):
                continue
            listed = ", ".join(sorted({*self._taken, *harmless}))
            raise ValueError(
                f"{self.path}: the field {name!r} ({value!r}) may change the computation and is not known "
                f"here; known: {listed}. Remove it if it is harmless, or {WAY_OUT}"
            )
