"""Reads a request's generation settings from lm_eval's generation keywords.

The semantics are those of lm_eval 0.4.13 (``normalize_gen_kwargs`` and ``HFLM._model_generate``). The number
of new tokens has several names, the first of which takes precedence; the default is 256. A temperature above
0 means sampling, unless ``do_sample`` is false. Other defaults come from the model's
``generation_config.json``, then from Hugging Face, where samples are drawn from the 50 most likely tokens.

    {"until": "Q:", "max_tokens": 32}              greedy, 32 tokens, stop at "Q:"
    {"temperature": 0.7, "top_p": 0.9}             samples, 256 tokens
    {"do_sample": False, "temperature": 0.7}       greedy
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from windrow.admission import is_whole
from windrow.generation.defaults import GenerationDefaults
from windrow.generation.rules import NO_RULES, RULES, Rules, number, read_rules, tokens
from windrow.generation.unfollowed import UNFOLLOWED, check_followed

DEFAULT_NEW_TOKENS = 256
"""The maximum number of new tokens if a request gives no limit."""

LENGTH_KEYWORDS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names for the maximum number of new tokens, in order of precedence."""

KEYWORDS = (
    *LENGTH_KEYWORDS,
    *("max_length", "until", "eos_token_id", "do_sample", "temperature", "top_k", "top_p"),
    *RULES,
)
"""Supported generation keywords."""


@dataclass(frozen=True)
class Settings:
    """The generation settings of one request.

    Attributes:
        max_new_tokens: The maximum number of generated tokens.
        stops: Stop strings; an empty one ends the text after its first token, as in lm_eval.
        temperature: Logits are divided by this before sampling; 0 means greedy decoding.
        top_k: Sample from the ``top_k`` most likely tokens; 0 means no limit.
        top_p: Sample from the smallest set of most likely tokens with this total probability; 1 means no
            limit.
        rules: Changes to the logits before a token is chosen.
        end_tokens: Tokens that end the text; ``None`` for the model's own.
        reserved: The number of tokens to leave free when truncating the prompt; ``None`` for
            ``max_new_tokens``.
        max_length: The maximum number of tokens of prompt and text together, which replaces
            ``max_new_tokens``; ``None`` if the request sets none.
    """

    max_new_tokens: int = DEFAULT_NEW_TOKENS
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    rules: Rules = NO_RULES
    end_tokens: tuple[int, ...] | None = None
    reserved: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Rejects invalid values, naming them."""
        for name in ("max_new_tokens", "reserved", "max_length"):
            value = getattr(self, name)
            unsaid = value is None and name != "max_new_tokens"
            _check(name, value, unsaid or is_whole(value), "a positive whole number")
        for stop in self.stops:
            _check("a stop string", stop, isinstance(stop, str), "a string")
        sound = _number(self.temperature) and 0 <= self.temperature < float("inf")
        _check("temperature", self.temperature, sound, "a number of at least 0")
        sound = is_whole(self.top_k, least=0)
        _check("top_k", self.top_k, sound, "a whole number of at least 0 (0 for no limit)")
        sound = _number(self.top_p) and 0 < self.top_p <= 1
        _check("top_p", self.top_p, sound, "a number above 0 and at most 1 (1 for no limit)")

    @property
    def room(self) -> int:
        """The number of tokens to leave free when truncating the prompt."""
        return self.max_new_tokens if self.reserved is None else self.reserved

    def after(self, prompt_tokens: int) -> "Settings":
        """The settings once the prompt's length is known: ``max_length`` becomes ``max_new_tokens``.

        Raises:
            ValueError: There is no room after the prompt.

        >>> Settings(max_length=40).after(30).max_new_tokens
        10
        """
        if self.max_length is None:
            return self
        if self.max_length <= prompt_tokens:
            raise ValueError(
                f"max_length is {self.max_length}, but the prompt already has {prompt_tokens} tokens; "
                "use max_gen_toks, which counts only new tokens"
            )
        return replace(self, max_new_tokens=self.max_length - prompt_tokens, max_length=None)


def read_settings(keywords: Any, defaults: GenerationDefaults) -> Settings:
    """Reads the settings from a request's generation keywords.

    Args:
        keywords: The second element of an lm_eval ``generate_until`` request's ``args``.
        defaults: The defaults from the model's files.

    Raises:
        ValueError: A keyword is unknown, its value is invalid, or it is not supported and would change the
            text.

    >>> settings = read_settings({"until": "Q:", "max_tokens": 32}, GenerationDefaults())
    >>> settings.stops, settings.max_new_tokens, settings.temperature
    (('Q:',), 32, 0.0)
    """
    if not isinstance(keywords, Mapping):
        raise ValueError(f"generation keywords must be a mapping, not {type(keywords).__name__}")
    for name in keywords:
        if name not in KEYWORDS and name not in UNFOLLOWED:
            raise ValueError(
                f"unknown generation keyword {name!r}; known: {', '.join((*KEYWORDS, *UNFOLLOWED))}"
            )
    warm = _temperature(keywords)
    check_followed(keywords, defaults.others, defaults.source, bool(warm), ", ".join(KEYWORDS))
    top_k, top_p = keywords.get("top_k", defaults.top_k), keywords.get("top_p", defaults.top_p)
    return Settings(
        stops=_stops(keywords.get("until")),
        temperature=warm,
        top_k=0 if not warm or top_k is None else top_k,
        top_p=1.0 if not warm or top_p is None else top_p,
        rules=read_rules(keywords, defaults.rules),
        end_tokens=_end_tokens(keywords),
        **_limits(keywords, defaults.max_new_tokens),
    )


def _limits(keywords: Mapping[str, Any], own: int | None) -> dict[str, Any]:
    """The length limit of a text, and how many tokens to leave free after the prompt if that differs."""
    given = [keywords[name] for name in LENGTH_KEYWORDS if keywords.get(name) is not None]
    asked = _as_whole(given[0]) if given else DEFAULT_NEW_TOKENS
    if own is not None:
        return {"max_new_tokens": own, "reserved": None if own == asked else asked}
    length = keywords.get("max_length")
    return {"max_new_tokens": asked, "max_length": None if length is None else _as_whole(length)}


def _end_tokens(keywords: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The request's own end tokens, possibly empty; ``None`` if it specifies none."""
    if "eos_token_id" not in keywords:
        return None
    given = keywords["eos_token_id"]
    try:
        return () if given is None else tokens(given)
    except (TypeError, ValueError):
        raise ValueError(f"eos_token_id must be a token id or a list of them, not {given!r}") from None


def _temperature(keywords: Mapping[str, Any]) -> float:
    """The effective temperature, 0 for greedy."""
    sample, given = keywords.get("do_sample"), keywords.get("temperature")
    _check("do_sample", sample, sample is None or isinstance(sample, bool), "true or false")
    try:
        temperature = 0.0 if given is None else number(given)
    except (TypeError, ValueError):
        raise ValueError(f"temperature must be a number of at least 0, not {given!r}") from None
    if sample and temperature == 0:
        raise ValueError("do_sample is true, but temperature is 0; set a temperature above 0 to sample")
    return 0.0 if sample is False else temperature


def _stops(until: Any) -> tuple[str, ...]:
    if until is None:
        return ()
    if not isinstance(until, str | list | tuple):
        raise ValueError(f"until must be a string or a list of strings, not {type(until).__name__}")
    return (until,) if isinstance(until, str) else tuple(until)


def _as_whole(value: Any) -> Any:
    """A whole number, possibly given as a float or a string, as lm_eval accepts them."""
    try:
        return int(value) if not isinstance(value, bool) and int(value) == float(value) else value
    except (TypeError, ValueError, OverflowError):
        return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(name: str, value: Any, sound: bool, expected: str) -> None:
    if not sound:
        raise ValueError(f"{name} must be {expected}, not {value!r}")
