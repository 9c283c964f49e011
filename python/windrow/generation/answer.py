"""Extracts the answer from generated tokens by removing the reasoning before it.

As in lm_eval's Hugging Face backend, the answer is the text after the last end-of-thinking marker, without
leading white space. Stop strings are applied to it afterwards, so a stop string within the reasoning ends
generation but does not truncate the answer.

    tokens of "<think>so</think> 42"    end of thinking "</think>"    answer "42"
"""

from collections.abc import Callable, Sequence

ThinkEnd = int | str | None
"""The end of the reasoning: a token id, or a string in the decoded text."""


def read_answer(tokens: Sequence[int], decode: Callable[[Sequence[int]], str], think_end: ThinkEnd) -> str:
    """The decoded text after the last end-of-thinking marker, or the whole text if there is none.

    Args:
        tokens: All generated tokens.
        decode: Decodes tokens, omitting special ones.
        think_end: The end-of-thinking marker; with ``None`` or an empty string, nothing is removed.

    >>> read_answer([9, 0, 7, 0, 0, 5], lambda tokens: f" {tokens}", 7)
    '[0, 0, 5]'
    >>> read_answer([1], lambda tokens: "a</t> b</t> c", "</t>")
    'c'
    """
    if isinstance(think_end, int):
        after = next((at + 1 for at in reversed(range(len(tokens))) if tokens[at] == think_end), 0)
        return decode(tokens[after:]).lstrip()
    text = decode(tokens)
    return text.split(think_end)[-1].lstrip() if think_end else text
