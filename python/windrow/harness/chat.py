"""Variables for the chat template, and settings for reasoning models."""

import json
from collections.abc import Mapping
from typing import Any

from windrow.generation.answer import ThinkEnd
from windrow.harness.arguments import flag
from windrow.harness.requests import Requests


class Chat:
    """How to turn conversations into prompts.

    Args:
        variables: The template's variables in addition to the messages, as a mapping or JSON.
        enable_thinking: Passed to the template as well, unless ``None``.
        think_end_token: The token id, possibly given as a string, or the string that ends the reasoning.

    Attributes:
        variables: All of the template's variables.
        think_end: The token id or string that ends the reasoning.

    Raises:
        ValueError: An argument is invalid.

    >>> Chat('{"date": "today"}', "true", "7").variables
    {'date': 'today', 'enable_thinking': True}
    """

    def __init__(
        self,
        variables: Mapping[str, Any] | str | None,
        enable_thinking: bool | str | None,
        think_end_token: int | str | None,
    ) -> None:
        digits = isinstance(think_end_token, str) and think_end_token.isdigit()
        self.think_end: ThinkEnd = int(think_end_token) if digits and think_end_token else think_end_token
        self._thinks = None if enable_thinking is None else flag("enable_thinking", enable_thinking)
        if self._thinks and self.think_end is None:
            raise ValueError(
                "enable_thinking needs think_end_token, the token or string that ends the reasoning"
            )
        thinking = {} if self._thinks is None else {"enable_thinking": self._thinks}
        self.variables = {**_mapping(variables), **thinking}

    def refuse_scoring(self, requests: Requests) -> None:
        """Rejects log-likelihood requests if thinking is enabled.

        Raises:
            ValueError: Thinking is enabled; the message names the tasks.
        """
        if self._thinks:
            tasks = ", ".join(sorted(set(filter(None, requests.tasks)))) or "unnamed"
            raise ValueError(
                f"enable_thinking=True only works for tasks that generate text; these have {requests.kind} "
                f"requests: {tasks}"
            )


def _mapping(given: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    try:
        variables = json.loads(given) if isinstance(given, str) else given or {}
    except ValueError:
        variables = None
    if not isinstance(variables, Mapping):
        raise ValueError(f"chat_template_args must be a mapping or a JSON object, not {given!r}")
    return variables
