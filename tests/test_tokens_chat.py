"""Chat templates are rendered as in lm_eval's Hugging Face backend.

The expected texts were compared once with those of transformers 5.24 for these templates.
"""

import json
from datetime import datetime

import jinja2
import pytest

from trained_tokenizers import QUICK
from windrow.tokens import load_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)
TALK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi <b>"}]
BEGUN = [*TALK, {"role": "assistant", "content": "I think "}]


def save(folder, config, template=None):
    QUICK["gpt2"]().save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return load_tokenizer(folder)


@pytest.fixture
def with_template(tmp_path):
    return lambda template: save(tmp_path, {"chat_template": template})


def test_generation_prompt(with_template):
    text = with_template(CHATML).apply_chat_template(TALK)
    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"
    )


def test_last_message_is_continued(with_template):
    text = with_template(CHATML).apply_chat_template(BEGUN, add_generation_prompt=False)
    assert text.endswith("<|im_start|>assistant\nI think ")


def test_last_message_is_continued_with_trimmed_white_space(with_template):
    text = with_template(TRIMMING).apply_chat_template(BEGUN, add_generation_prompt=False)
    assert text == "<s>[system] Be kind.</s>[user] Hi <b></s>[assistant] I think"


def test_repeated_message_is_cut_at_its_last_end(with_template):
    """The marker after the first copy stays, as in transformers."""
    text = with_template("{{ messages[0].content }}{{ messages[0].content }}!").apply_chat_template(
        TALK[1:], add_generation_prompt=False
    )
    assert text == "Hi <b>CONTINUE_FINAL_MESSAGE_TAG Hi <b>"


def test_last_text_part_of_a_message_is_continued(with_template):
    template = "{% for m in messages %}{% for part in m.content %}<{{ part.text }}>{% endfor %}{% endfor %}"
    parts = [{"type": "text", "text": "I "}, {"type": "text", "text": "think "}, {"type": "image"}]
    talk = [{"role": "assistant", "content": parts}]
    assert with_template(template).apply_chat_template(talk, add_generation_prompt=False) == "<I ><think "
    assert parts[1] == {"type": "text", "text": "think "}


def test_lone_system_message_is_refused(with_template):
    with (
        pytest.warns(UserWarning, match="no system role"),
        pytest.raises(ValueError, match="none without the system role"),
    ):
        with_template(NO_SYSTEM).apply_chat_template(TALK[:1])


def test_special_tokens_reach_the_template(with_template):
    assert with_template(TRIMMING).apply_chat_template(TALK[1:]) == "<s>[user] Hi <b></s>[assistant]"


def test_system_role_is_dropped_if_the_template_refuses_it(with_template):
    tokenizer = with_template(NO_SYSTEM)
    with pytest.warns(
        UserWarning, match=r"rejects the messages \(no system role\); trying without the system role"
    ):
        assert tokenizer.apply_chat_template(TALK) == "<user>Hi <b>"


def test_messages_that_the_template_always_refuses(with_template):
    tokenizer = with_template("{{ raise_exception('never') }}")
    with pytest.warns(UserWarning, match="rejects"), pytest.raises(jinja2.TemplateError, match="never"):
        tokenizer.apply_chat_template(TALK)


def test_functions_and_variables_of_templates(with_template):
    template = (
        "{{ messages[0] | tojson }} {{ strftime_now('%Y') }} {{ tools is none }} {{ documents is none }}"
        "{% for m in messages %}{% break %}{% endfor %}{% generation %}said{% endgeneration %} {{ style }}"
    )
    message = {"role": "user", "content": "é<b>", "name": None}
    text = with_template(template).apply_chat_template([message], style="plain")
    assert text == f'{{"role": "user", "content": "é<b>"}} {datetime.now():%Y} True Truesaid plain'


def test_generation_block_has_its_own_scope(with_template):
    template = (
        "{% for m in messages %}{% set mark = 'A' %}"
        "{% generation %}{% set mark = 'B' %}[{{ m.content }}]{% endgeneration %}{{ mark }}{% endfor %}"
    )
    assert with_template(template).apply_chat_template(TALK) == "[Be kind.]A[Hi <b>]A"


def test_reasoning_is_available_under_all_names(with_template):
    tokenizer = with_template(
        "{% for m in messages %}{{ m.thinking }}|{{ m.reasoning_content }};{% endfor %}"
    )
    talk = [{"role": "assistant", "content": "4", name: "2 + 2"} for name in ("reasoning", "thinking")]
    assert tokenizer.apply_chat_template([*TALK[1:], *talk]) == "|;2 + 2|2 + 2;2 + 2|2 + 2;"


def test_named_tokens_reach_the_template(tmp_path):
    named = {
        "unk_token": "<unk>",
        "image_token": "<image>",
        "extra_special_tokens": {"video_token": "<video>"},
    }
    template = "{{ pad_token }} {{ image_token }} {{ video_token }}"
    tokenizer = save(tmp_path, named, template)
    assert tokenizer.apply_chat_template(TALK) == " <image> <video>"
    assert tokenizer.with_padding().apply_chat_template(TALK) == "<unk> <image> <video>"
    saved = {"model_specific_special_tokens": {"end_of_turn": "<turn>"}}
    assert save(tmp_path, saved, "{{ end_of_turn }}").apply_chat_template(TALK) == "<turn>"


def test_templates_cannot_reach_python(with_template):
    tokenizer = with_template("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.warns(UserWarning, match="rejects"), pytest.raises(jinja2.exceptions.SecurityError):
        tokenizer.apply_chat_template(TALK)


def test_template_file_takes_precedence_over_the_configuration(tmp_path):
    tokenizer = save(tmp_path, {"chat_template": "wrong"}, CHATML)
    assert tokenizer.chat_template == CHATML


def test_templates_by_name(tmp_path):
    named = [{"name": "default", "template": CHATML}, {"name": "rag", "template": TRIMMING}]
    tokenizer = save(tmp_path, {"chat_template": named})
    assert tokenizer.chat_template == {"default": CHATML, "rag": TRIMMING}
    assert tokenizer.template_named() == CHATML
    assert tokenizer.template_named("rag") == TRIMMING
    assert tokenizer.apply_chat_template(TALK).startswith("<|im_start|>")
    with pytest.raises(ValueError, match=r"has no chat template 'tool'; it has \['default', 'rag'\]"):
        tokenizer.template_named("tool")


def test_templates_in_files_by_name(tmp_path):
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text(TRIMMING)
    assert save(tmp_path, {}, CHATML).chat_template == {"default": CHATML, "rag": TRIMMING}


@pytest.mark.parametrize(
    ("template", "messages", "generate", "message"),
    [
        (CHATML, [], True, "messages must hold at least one message"),
        (
            CHATML,
            [{"role": "user", "content": None}],
            False,
            "content of the last message must have a text",
        ),
        ("nothing of it", TALK, False, "drops or changes the last message"),
    ],
)
def test_bad_messages_are_refused(with_template, template, messages, generate, message):
    with pytest.raises(ValueError, match=message):
        with_template(template).apply_chat_template(messages, generate)


def test_no_template(tmp_path):
    with pytest.raises(ValueError, match=r"has no chat template; put a chat_template\.jinja next to"):
        save(tmp_path, {}).apply_chat_template(TALK)
