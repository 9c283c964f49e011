"""Unsupported settings of Hugging Face's ``generate``, and the values of each that change nothing."""

from collections.abc import Mapping
from typing import Any

WITHOUT_EFFECT = (
    *("early_stopping", "length_penalty", "diversity_penalty"),  # for beam search
    *("renormalize_logits", "remove_invalid_values"),
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size"),
    *("compile_config", "disable_compile", "low_memory"),
    *("bos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("prompt_lookup_num_tokens", "max_matching_ngram_size"),  # speculative decoding
)
"""Accepted with any value, because they never change a text."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "num_beam_groups": (1,),
    "guidance_scale": (1,),
    "penalty_alpha": (0,),
    "token_healing": (False,),
    "return_dict_in_generate": (False,),
    "constraints": (),
    "force_words_ids": (),
    "watermarking_config": (),
    "dola_layers": (),
    "max_time": (),
    "stop_strings": (),
}
"""Accepted with these values, which change nothing, and with ``None``."""

NEUTRAL_FOR_SAMPLES: dict[str, tuple[Any, ...]] = {
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
}
"""The same for sampling; in greedy decoding, these change nothing, whatever the value."""

UNFOLLOWED = (*NEUTRAL, *NEUTRAL_FOR_SAMPLES, *WITHOUT_EFFECT)


def check_followed(
    keywords: Mapping[str, Any], fields: Mapping[str, Any], source: str, sampled: bool, supported: str
) -> None:
    """Rejects unsupported settings that would change a text.

    Args:
        keywords: The request's keywords, which override ``fields``.
        fields: The fields of the model's file.
        source: The path of that file.
        sampled: Whether the text is sampled.
        supported: The supported names, for the error.

    Raises:
        ValueError: A keyword or a field has a value that would change the text.
    """
    for name, neutral in (NEUTRAL | (NEUTRAL_FOR_SAMPLES if sampled else {})).items():
        value = keywords[name] if name in keywords else fields.get(name)
        if value is None or value in neutral:
            continue
        where = f"generation keyword {name!r}" if name in keywords else f"{source}: {name!r}"
        only = neutral[0] if neutral else None
        instead = "" if name in keywords else f", unless the request sets {name} itself"
        raise ValueError(
            f"{where} is {value!r}, which is not supported; only {only!r} is{instead}. Supported: {supported}"
        )
