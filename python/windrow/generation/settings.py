"""What a request asks of generation, read from lm_eval's generation keywords.

The semantics are those of lm_eval 0.4.13 (``normalize_gen_kwargs`` and
``HFLM._model_generate``): of the names for the most new tokens the first given
counts, 256 if none is; a temperature above 0 samples unless ``do_sample`` is
false; what is not given comes from the model's ``generation_config.json``, then
from Hugging Face's defaults, by which samples are drawn from the 50 most likely
tokens.

    {"until": "Q:", "max_tokens": 32}              greedy, 32 tokens, stop at "Q:"
    {"temperature": 0.7, "top_p": 0.9}             samples, 256 tokens
    {"do_sample": False, "temperature": 0.7}       greedy
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windrow.generation.defaults import GenerationDefaults

DEFAULT_NEW_TOKENS = 256
"""The most tokens generated where a request does not say."""

LENGTH_KEYWORDS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names for the most new tokens, the first of which counts."""

KEYWORDS = (*LENGTH_KEYWORDS, "until", "do_sample", "temperature", "top_k", "top_p")
"""Generation keywords that are followed."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "use_cache": (True, False, None),
    "num_beams": (1, None),
    "num_return_sequences": (1, None),
    "repetition_penalty": (1, None),
    "length_penalty": (1, None),
    "typical_p": (1, None),
    "no_repeat_ngram_size": (0, None),
    "min_p": (0, None),
}
"""Keywords that are taken with these values, with which they change nothing."""


@dataclass(frozen=True)
class Settings:
    """How one request's text is generated.

    Attributes:
        max_new_tokens: The most tokens generated.
        stops: Strings at which the text ends; an empty one ends it after its first token, as it does there.
        temperature: What logits are divided by before sampling; 0 is greedy.
        top_k: Sample from so many most likely tokens; 0 is no limit.
        top_p: Sample from the most likely tokens that have this probability together; 1 is no limit.
    """

    max_new_tokens: int = DEFAULT_NEW_TOKENS
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be, naming it."""
        _check(
            "max_new_tokens", self.max_new_tokens, _whole(self.max_new_tokens, 1), "a positive whole number"
        )
        for stop in self.stops:
            _check("a stop string", stop, isinstance(stop, str), "a string")
        sound = _number(self.temperature) and 0 <= self.temperature < float("inf")
        _check("temperature", self.temperature, sound, "a number of at least 0")
        _check("top_k", self.top_k, _whole(self.top_k, 0), "a whole number of at least 0, which is no limit")
        sound = _number(self.top_p) and 0 < self.top_p <= 1
        _check("top_p", self.top_p, sound, "a number above 0 and at most 1, which is no limit")


def read_settings(keywords: Any, defaults: GenerationDefaults) -> Settings:
    """The settings that a request's generation keywords describe.

    Args:
        keywords: The second of an lm_eval ``generate_until`` request's ``args``.
        defaults: What the model's files say.

    Raises:
        ValueError: A keyword is not known, or its value is not what it must be.

    >>> settings = read_settings({"until": "Q:", "max_tokens": 32}, GenerationDefaults())
    >>> settings.stops, settings.max_new_tokens, settings.temperature
    (('Q:',), 32, 0.0)
    """
    if not isinstance(keywords, Mapping):
        raise ValueError(f"generation keywords must be a mapping, not {type(keywords).__name__}")
    for name, value in keywords.items():
        _check_keyword(name, value)
    given = [keywords[name] for name in LENGTH_KEYWORDS if keywords.get(name) is not None]
    warm = _temperature(keywords)
    top_k, top_p = keywords.get("top_k"), keywords.get("top_p")
    return Settings(
        max_new_tokens=_as_whole(given[0]) if given else DEFAULT_NEW_TOKENS,
        stops=_stops(keywords.get("until")),
        temperature=warm,
        top_k=0 if not warm else defaults.top_k if top_k is None else top_k,
        top_p=1.0 if not warm else defaults.top_p if top_p is None else top_p,
    )


def _check_keyword(name: Any, value: Any) -> None:
    if name in KEYWORDS:
        return
    if name not in NEUTRAL:
        raise ValueError(
            f"generation keyword {name!r} is not known; known: {', '.join((*KEYWORDS, *NEUTRAL))}"
        )
    if value not in NEUTRAL[name]:
        raise ValueError(
            f"generation keyword {name!r} must be {NEUTRAL[name][0]!r}, which changes nothing: "
            f"{value!r} is not built"
        )


def _temperature(keywords: Mapping[str, Any]) -> float:
    """The temperature that counts, 0 for greedy."""
    sample, temperature = keywords.get("do_sample"), keywords.get("temperature")
    temperature = 0.0 if temperature is None else temperature
    _check("do_sample", sample, sample is None or isinstance(sample, bool), "true or false")
    _check("temperature", temperature, _number(temperature), "a number of at least 0")
    if sample and temperature == 0:
        raise ValueError("do_sample is true, but temperature is 0; give a temperature above 0 to sample")
    return 0.0 if sample is False else float(temperature)


def _stops(until: Any) -> tuple[str, ...]:
    if until is None:
        return ()
    if not isinstance(until, str | list | tuple):
        raise ValueError(f"until must be a string or a list of strings, not {type(until).__name__}")
    return (until,) if isinstance(until, str) else tuple(until)


def _as_whole(value: Any) -> Any:
    """A whole number, also one that came as a float or a string, as lm_eval takes them."""
    try:
        return int(value) if not isinstance(value, bool) and int(value) == float(value) else value
    except (TypeError, ValueError, OverflowError):
        return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(name: str, value: Any, sound: bool, expected: str) -> None:
    if not sound:
        raise ValueError(f"{name} must be {expected}, not {value!r}")
