"""Chat templates: a conversation as one string, as transformers renders it.

A template is Jinja source that comes with the tokenizer. It is rendered in a
sandbox, with the special tokens' texts and the names that templates expect
(``messages``, ``add_generation_prompt``, ``tools``, ``documents``,
``raise_exception``, ``strftime_now``).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from windrow.tokens.source import ChatTemplate

Message = Mapping[str, str]


def select_template(template: ChatTemplate, name: str | None, tokenizer: str) -> str:
    """One template's source: the named one of several, else the default one.

    Raises:
        ValueError: There is no template, none of that name, or no default.
    """
    if template is None:
        raise ValueError(
            f"tokenizer {tokenizer!r} has no chat template; "
            "put a chat_template.jinja beside its tokenizer.json"
        )
    if isinstance(template, str):
        return template
    if (name or "default") not in template:
        raise ValueError(
            f"tokenizer {tokenizer!r} has no chat template named {name or 'default'!r}; "
            f"it has {', '.join(sorted(template))}"
        )
    return template[name or "default"]


def render_chat(
    template: str,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool,
    continue_final_message: bool,
) -> str:
    """Renders a conversation.

    Args:
        template: Jinja source.
        messages: Each with ``role`` and ``content``.
        special_tokens: Texts of ``bos_token``, ``eos_token`` and so on.
        add_generation_prompt: Whether what begins the model's answer is added.
        continue_final_message: Whether the text ends with the final message's
            content, for the model to go on with it.

    Raises:
        jinja2.TemplateError: The template is not Jinja, or refuses the conversation.
        ValueError: The final message is not in the rendered text as it stands.

    >>> template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    >>> hello = [{"role": "user", "content": "Hello"}]
    >>> options = {"add_generation_prompt": False, "continue_final_message": False}
    >>> render_chat(template, hello, {"eos_token": "</s>"}, **options)
    '<user>Hello</s>'
    """
    text = (
        _environment()
        .from_string(template)
        .render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **special_tokens,
        )
    )
    return _up_to_end_of(messages[-1]["content"], text) if continue_final_message else text


def _up_to_end_of(content: str, text: str) -> str:
    """The text up to the last end of ``content``, with its trailing white space where that is kept."""
    at = text.rfind(content.strip())
    if at < 0:
        raise ValueError(
            f"the chat template does not keep the final message as it is ({content[:40]!r}), "
            "so there is no place to go on from"
        )
    trailing = content.lstrip()
    kept = text.startswith(trailing, at)
    return text[: at + len(trailing if kept else content.strip())]


def _environment() -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


def _raise(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # Jinja's own filter escapes characters of HTML, which would change the prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)
