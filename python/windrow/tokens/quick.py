"""Rewrites a ``tokenizer.json`` into equivalent forms that the quick encoder supports.

The quick encoder rejects a sequence of a single pre-tokenizer, and byte fallback if the vocabulary has no
bytes. It searches for added tokens in normalized text, and treats ``Metaspace`` as a normalizer, so it would
look for ``[INST]`` in ``▁[INST]``.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any


def in_quick_words(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer, rewritten where the quick encoder needs an equivalent form.

    >>> in_quick_words({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace"}]}})
    {'pre_tokenizer': {'type': 'Metaspace'}}
    """
    changed = dict(tokenizer)
    steps = (tokenizer.get("pre_tokenizer") or {}).get("pretokenizers")
    if steps and len(steps) == 1:
        changed["pre_tokenizer"] = steps[0]
    added = tokenizer.get("added_tokens")
    if added and tokenizer.get("normalizer") is None and _found_apart(added):
        changed["added_tokens"] = [{**token, "normalized": False} for token in added]
    model = tokenizer.get("model") or {}
    if model.get("byte_fallback") and not any(f"<0x{byte:02X}>" in model["vocab"] for byte in range(256)):
        changed["model"] = {**model, "byte_fallback": False}
    return changed


def quick_forms(tokenizer: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Forms for the quick encoder: a tokenizer, and a split pattern to run separately.

    The encoder has fast code for a few patterns; any other is removed and run separately.
    """
    tokenizer = in_quick_words(tokenizer)
    yield tokenizer, None
    match tokenizer.get("pre_tokenizer"):
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False} as letters,
            ],
        }:
            yield {**tokenizer, "pre_tokenizer": letters}, pattern


def _found_apart(added: list[dict[str, Any]]) -> bool:
    """Whether no token searched for in normalized text overlaps one searched for in raw text.

    Without a normalizer, the two searches are equivalent unless their tokens overlap.
    """
    raw = [token["content"] for token in added if not token.get("normalized")]
    normalized = [token["content"] for token in added if token.get("normalized")]
    return not any(_overlap(one, other) or _overlap(other, one) for one, other in product(raw, normalized))


def _overlap(one: str, other: str) -> bool:
    """Whether ``other`` can begin within an occurrence of ``one``."""
    return any(other.startswith(one[start:]) or one.startswith(other, start) for start in range(len(one)))
