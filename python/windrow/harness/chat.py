"""What a chat template is given, and models that think before they answer."""

import json
from collections.abc import Mapping
from typing import Any

from windrow.generation.answer import ThinkEnd
from windrow.harness.arguments import flag
from windrow.harness.requests import Requests


class Chat:
    """How conversations become prompts.

    Args:
        variables: What the template is given besides the messages, perhaps as JSON.
        enable_thinking: Given to the template as well, if not ``None``.
        think_end_token: What an answer begins behind: a token's id, perhaps as a string, or another string.

    Attributes:
        variables: All that the template is given.
        think_end: What an answer begins behind.

    Raises:
        ValueError: An argument is not what it must be.

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
            raise ValueError("enable_thinking needs think_end_token: the token or string that ends thinking")
        told = {} if self._thinks is None else {"enable_thinking": self._thinks}
        self.variables = {**_mapping(variables), **told}

    def refuse_scoring(self, requests: Requests) -> None:
        """Refuses log-likelihood requests of a model that is to think first.

        Raises:
            ValueError: It names the tasks.
        """
        if self._thinks:
            tasks = ", ".join(sorted(set(filter(None, requests.tasks)))) or "unnamed"
            raise ValueError(
                f"enable_thinking=True is for tasks that generate text, not for {requests.kind} requests; "
                f"tasks with such requests: {tasks}"
            )


def _mapping(given: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    try:
        variables = json.loads(given) if isinstance(given, str) else given or {}
    except ValueError:
        variables = None
    if not isinstance(variables, Mapping):
        raise ValueError(f"chat_template_args must be a mapping, or one as JSON, not {given!r}")
    return variables
