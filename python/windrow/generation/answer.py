"""From a text's tokens to the answer in it: what a model thinks first is left out.

As lm_eval's Hugging Face backend has it: the answer is what follows the last end of
thinking, without white space at its beginning; the stop strings cut it afterwards,
so that one inside the thoughts cuts nothing (though it ended the text).

    tokens of "<think>so</think> 42"    end of thinking "</think>"    answer "42"
"""

from collections.abc import Callable, Sequence

ThinkEnd = int | str | None
"""What ends the thoughts: a token, or a string in the decoded text."""


def read_answer(tokens: Sequence[int], decode: Callable[[Sequence[int]], str], think_end: ThinkEnd) -> str:
    """The decoded text, without what stands before the last end of thinking.

    Args:
        tokens: All tokens of the text.
        decode: Decodes them, without special tokens.
        think_end: What ends the thoughts; ``None`` and an empty string where nothing is to be left out.

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
