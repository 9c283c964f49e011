"""Renders chat templates, which turn messages into the text format that a chat model was trained on.

A template is a Jinja program that comes with the tokenizer. It runs in Jinja's sandbox, with everything that
the Hugging Face format defines: ``messages``, ``add_generation_prompt``, the special tokens by role,
``raise_exception``, ``strftime_now``, and a ``tojson`` that does not escape characters.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from windrow.warning import warn

Message = Mapping[str, Any]

_REASONING = ("reasoning_content", "thinking", "reasoning")
"""The names of a message's reasoning, in order of precedence."""

_END = "CONTINUE_FINAL_MESSAGE_TAG "
"""Appended to the message to continue, to find its end in the rendered text, as in transformers.

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
        ValueError: There are no messages, or none are left without the system role, or the last one is not
            in the rendered text.
        jinja2.TemplateError: The template also rejects the messages without the system role.
    """
    if not messages:
        raise ValueError("messages must hold at least one message")
    try:
        return _render(template, messages, add_generation_prompt, variables)
    except TemplateError as error:
        warn(f"the chat template rejects the messages ({error}); trying without the system role")
    others = [message for message in messages if message["role"] != "system"]
    if not others:
        raise ValueError("the chat template rejects the messages, and there are none without the system role")
    return _render(template, others, add_generation_prompt, variables)


def _render(
    template: str, messages: Sequence[Message], add_generation_prompt: bool, variables: Mapping[str, Any]
) -> str:
    given = [_message(message) for message in messages]
    program = _compile(template)
    # Templates test whether these are none; an undefined variable is not none.
    variables = {"tools": None, "documents": None, **variables}
    if add_generation_prompt:
        return program.render(messages=given, add_generation_prompt=True, **variables)
    last, given[-1]["content"] = _left_open(given[-1].get("content"))
    return _cut_at_end(program.render(messages=given, add_generation_prompt=False, **variables), last)


def _message(message: Message) -> dict[str, Any]:
    """A message without keys that are none, with its reasoning under each name that templates use."""
    given = {key: value for key, value in message.items() if value is not None}
    reasoning = next((given[name] for name in _REASONING if name in given), None)
    if reasoning is None:
        return given
    return {"thinking": reasoning, **given, "reasoning_content": reasoning}


def _left_open(content: Any) -> tuple[str, Any]:
    """The text to continue, and the content with its end marked: a string, or a list of parts."""
    if isinstance(content, str):
        return content, content + _END
    parts = list(content) if isinstance(content, list | tuple) else []
    at = next((at for at in reversed(range(len(parts))) if "text" in parts[at]), None)
    if at is None:
        raise ValueError("the content of the last message must have a text, so that it can be continued")
    last = parts[at]["text"]
    parts[at] = {**parts[at], "text": last + _END}
    return last, parts


def _cut_at_end(text: str, last: str) -> str:
    """The text up to the end of its last message."""
    end = text.rfind(_END.strip())
    if end < 0 or last.strip() not in text:
        raise ValueError("the chat template drops or changes the last message, so it cannot be continued")
    # A template that trims messages removed the space, so the message itself is trimmed as well.
    return text[:end] if text.startswith(_END, end) else text[:end].rstrip()


class _Generation(Extension):
    """Lets templates mark the model's turns, which only matters in training.

    As in transformers, each block has its own scope: what it sets is not set after it.
    """

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller: Callable[[], str]) -> str:
        return caller()


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
