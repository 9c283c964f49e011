"""Renders chat templates, which turn messages into the text format that a chat model was trained on.

A template is a Jinja program that comes with the tokenizer. It runs in Jinja's sandbox, with everything that
the Hugging Face format defines: ``messages``, ``add_generation_prompt``, the special tokens by role,
``raise_exception``, ``strftime_now``, and a ``tojson`` that does not escape characters.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from windrow.warning import warn

Message = Mapping[str, Any]

_END = "END_OF_THE_LAST_MESSAGE "
"""Appended to the message to continue, to find its end in the rendered text.

The space shows whether the template keeps trailing white space.
"""


def render_chat(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    variables: Mapping[str, Any],
) -> str:
    """Renders messages as lm_eval 0.4.13's ``HFLM.apply_chat_template`` does.

    With the generation prompt, the text ends where the model's answer begins. Without it, the last message is
    left open, so that the model continues it. If the template rejects the messages, they are rendered again
    without system messages.

    Raises:
        ValueError: There are no messages, or the last one is not in the rendered text.
        jinja2.TemplateError: The template also rejects the messages without the system role.
    """
    if not messages:
        raise ValueError("messages must hold at least one message")
    try:
        return _render(template, messages, add_generation_prompt, variables)
    except TemplateError as error:
        warn(f"the chat template rejects the messages ({error}); trying without the system role")
    others = [message for message in messages if message["role"] != "system"]
    return _render(template, others, add_generation_prompt, variables)


def _render(
    template: str, messages: Sequence[Message], add_generation_prompt: bool, variables: Mapping[str, Any]
) -> str:
    given = [{key: value for key, value in message.items() if value is not None} for message in messages]
    program = _compile(template)
    # Templates test whether these are none; an undefined variable is not none.
    variables = {"tools": None, "documents": None, **variables}
    if add_generation_prompt:
        return program.render(messages=given, add_generation_prompt=True, **variables)
    last = given[-1].get("content") if given else None
    if not isinstance(last, str):
        raise ValueError("the content of the last message must be a string, so that it can be continued")
    given[-1]["content"] = last + _END
    return _cut_at_end(program.render(messages=given, add_generation_prompt=False, **variables), last)


def _cut_at_end(text: str, last: str) -> str:
    """The text up to the end of its last message."""
    end = text.rfind(_END.strip())
    if end < 0 or last.strip() not in text:
        raise ValueError("the chat template drops or changes the last message, so it cannot be continued")
    # A template that trims messages removed the space, so the message itself is trimmed as well.
    return text[:end] if text.startswith(_END, end) else text[:end].rstrip()


class _Generation(Extension):
    """Lets templates mark the model's turns, which only matters in training."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def _compile(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)
