"""Rules that change logits, with different rules in one run, compared with recordings of transformers."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from lm_eval.api.instance import Instance

from exhaustive import exhaustive
from small_model import head, hidden, init_state, prefix_model, step
from test_generation import END, LETTERS, MESHES, VOCAB, letters  # noqa: F401  a fixture
from windrow import BatchPolicy, JaxLM, generate
from windrow.generation import Generator, Rules, Settings, read_defaults, read_settings
from windrow.generation.logits import Ruled, RunRules, apply_rules
from windrow.generation.rules import NO_RULES, read_rules
from windrow.models import load
from windrow.scoring import Clock
from windrow.sharding import RowSharding
from windrow.tokens import generation_prompts, load_tokenizer

RECORDED = Path(__file__).parent / "recordings" / "rules.jsonl"
"""Recorded inputs and outputs of transformers 5.24's logits processors. A line holds fields of a generation
configuration, end tokens, the prompt, the tokens generated so far, their limit, and the logits before and
after; ``null`` is minus infinity."""


def test_recorded_logits():
    cases = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    rules = RunRules(
        [
            Settings(rules=read_rules(case["fields"], NO_RULES), end_tokens=tuple(case["ends"]))
            for case in cases
        ],
        (),
    )
    rows = [case["prompt"] + case["made"] for case in cases]
    history = np.full((len(rows), 32), 5, np.int32)  # tokens after the end of a row have no effect
    for at, row in enumerate(rows):
        history[at, : len(row)] = row
    made = jnp.array([len(case["made"]) for case in cases])
    changed = jax.jit(apply_rules)(
        rules.table,
        Ruled(jnp.array(history), jnp.array(rules.kinds)),
        jnp.array([len(row) for row in rows]),
        made,
        jnp.array([case["limit"] for case in cases]) - made,
        jnp.array([case["logits"] for case in cases]),
    )
    assert {name for case in cases for name in case["fields"]} == set(NO_RULES.__dataclass_fields__)
    for case, given in zip(cases, np.asarray(changed), strict=True):
        expected = [-np.inf if value is None else value for value in case["changed"]]
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=2e-5, err_msg=str(case))


def recorded(evals, model):
    lines = (evals / "parity" / "generation.jsonl").read_text().splitlines()
    return [case for case in map(json.loads, lines) if case["model"] == model]


def folder_with(evals, model, config, folder):
    """A copy of the model's folder with these fields added to its ``generation_config.json``."""
    folder.mkdir()
    for file in (evals / "parity" / model).iterdir():
        (folder / file.name).symlink_to(file)
    path = folder / "generation_config.json"
    values = json.loads(path.read_text()) | config
    path.unlink()
    path.write_text(json.dumps(values))
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "stepping", "rows", "devices"),
    [
        ("tiny-llama", True, 16, 1),
        ("tiny-llama", False, 16, 8),
        ("tiny-gpt2", True, 8, 8),
        ("tiny-gpt2", False, 4, 1),
    ],
)
def test_recorded_texts(evals, tmp_path, name, stepping, rows, devices):
    """All requests in one run, each with its own fields of the generation configuration."""
    cases = recorded(evals, name)
    model, tokenizer = load(evals / "parity" / name), load_tokenizer(evals / "parity" / name)
    if not stepping:
        model = replace(model, init_state=None, step=None)
    defaults = [
        read_defaults(
            folder_with(evals, name, case["generation_config"], tmp_path / str(at)), tokenizer.eos_token_id
        )
        for at, case in enumerate(cases)
    ]
    settings = [read_settings(case["args"][1], own) for case, own in zip(cases, defaults, strict=True)]
    settings = [replace(one, end_tokens=own.end_tokens) for one, own in zip(settings, defaults, strict=True)]
    prompts = generation_prompts(
        tokenizer,
        [case["args"][0] for case in cases],
        max_new_tokens=[one.room for one in settings],
        max_length=model.max_length,
    )
    sharding = RowSharding.over(MESHES[devices]())
    policy = BatchPolicy(batch_size=rows)
    generator = Generator(model, tokenizer, sharding, Clock(), defaults[0], policy=policy)
    texts = {}
    generator.run(prompts, settings, lambda index, generated: texts.update({index: generated.text}))
    assert len(cases) == 56
    for index, case in enumerate(cases):
        assert texts[index] == case["result"], (case["generation_config"], case["args"])
    assert generator.report()["programs"] <= 9


def ask(lm, *arguments):
    return lm.generate_until(
        [Instance("generate_until", {}, args, index) for index, args in enumerate(arguments)]
    )


@pytest.mark.parametrize(
    "config",
    [
        {"repetition_penalty": 1.3},
        exhaustive({"max_new_tokens": 5}),
        exhaustive({"eos_token_id": [1, 11]}),
        exhaustive({"max_length": 40}),
    ],
)
def test_adapter_applies_the_generation_config(evals, tmp_path, config):
    cases = [case for case in recorded(evals, "tiny-llama") if case["generation_config"] == config]
    folder = folder_with(evals, "tiny-llama", config, tmp_path / "model")
    lm = JaxLM(pretrained=str(folder), batch_size=4, mesh=MESHES[1]())
    assert ask(lm, *[tuple(case["args"]) for case in cases]) == [case["result"] for case in cases]
    made = generate(
        load(folder), load_tokenizer(folder), [cases[0]["args"][0]], max_new_tokens=5, sharding=MESHES[1]()
    )
    if "max_new_tokens" not in config:
        assert cases[0]["result"].startswith(made.texts[0])


def letter_settings(count, seed=0):
    """Various settings, some with rules and some without."""
    rng = np.random.default_rng(seed)
    kinds = [
        (Rules(), None),
        (Rules(repetition_penalty=1.4), None),
        (Rules(no_repeat_ngram_size=2, suppress_tokens=(3,)), (END, 2)),
        (Rules(min_new_tokens=6, bad_words_ids=((1, 2), (4,))), tuple(range(5))),
        (Rules(encoder_no_repeat_ngram_size=1), ()),
    ]
    chosen = [kinds[at % len(kinds)] for at in range(count)]
    limits = rng.integers(4, 30, count).tolist()
    return [
        Settings(limit, rules=rules, end_tokens=ends, temperature=1.0 if at % 3 == 0 else 0.0)
        for at, (limit, (rules, ends)) in enumerate(zip(limits, chosen, strict=True))
    ]


def run_letters(tokenizer, prompts, settings, parts, rows, devices):
    model = prefix_model(len(VOCAB), max_length=96, **parts)
    made = generation_prompts(
        tokenizer, prompts, max_new_tokens=[one.room for one in settings], max_length=96
    )
    sharding = RowSharding.over(MESHES[devices]())
    defaults = replace(read_defaults("none", None), end_tokens=(END,))
    generator = Generator(
        model, tokenizer, sharding, Clock(), defaults, policy=BatchPolicy(batch_size=rows), seed=3
    )
    texts = {}
    generator.run(made, settings, lambda index, generated: texts.update({index: generated.tokens}))
    return [texts[index] for index in range(len(prompts))]


WITH_STEP = {"hidden": hidden, "head": head, "init_state": init_state, "step": step}


@pytest.fixture(scope="module")
def together(letters):  # noqa: F811
    """Prompts, their settings, and the tokens generated from all of them in one run."""
    rng = np.random.default_rng(4)
    prompts = ["".join(rng.choice(list(LETTERS), rng.integers(1, 40))) for _ in range(40)]
    settings = letter_settings(len(prompts))
    return prompts, settings, run_letters(letters, prompts, settings, WITH_STEP, 16, 8)


@pytest.mark.parametrize("kind", [0, 2])
def test_rules_of_other_rows_change_nothing(letters, together, kind):  # noqa: F811
    prompts, settings, made = (each[kind::5] for each in together)
    assert run_letters(letters, prompts, settings, WITH_STEP, 16, 1) == made


@pytest.mark.exhaustive
def test_rules_without_step_on_a_data_and_tensor_mesh(letters, together):  # noqa: F811
    prompts, settings, made = together
    assert run_letters(letters, prompts, settings, {}, 4, "4x2") == made


def test_rules_apply(letters, together):  # noqa: F811
    for prompt, one, made in zip(*together, strict=True):
        row = [*letters.encode(prompt), *made]
        if one.rules.no_repeat_ngram_size:
            known = list(pairwise(letters.encode(prompt)))
            new = list(pairwise(row))[len(known) :]
            assert len(set(new)) == len(new)
            assert not set(new) & set(known)
            assert 3 not in made
        if one.rules.min_new_tokens:
            assert not {*made[:6]} & {*one.end_tokens}
            assert (1, 2) not in list(pairwise(row))[-len(made) :]


def test_settings_without_rules_need_no_tables():
    plain = RunRules([Settings(), Settings(temperature=1.0), Settings(end_tokens=(1, 2))], (1, 2))
    assert (plain.table, plain.shapes, plain.kinds) == (None, None, [0, 0, 0])
    some = RunRules([Settings(), Settings(rules=Rules(suppress_tokens=(5,)))], (1, 2))
    assert some.kinds == [0, 1]
    assert some.ends == [{1, 2}] * 2
    assert hash(some.shapes) == hash(
        RunRules([Settings(rules=Rules(suppress_tokens=(7, 8))), Settings(rules=Rules())], (3,)).shapes
    )


def test_generate_accepts_rules(letters):  # noqa: F811
    model = prefix_model(len(VOCAB), max_length=96)
    one = generate(model, letters, ["abcd"], max_new_tokens=12, sharding=MESHES[1]())
    rules = Rules(no_repeat_ngram_size=1, bad_words_ids=((1, 2), (5,)), repetition_penalty=1.1)
    with jax.numpy_rank_promotion("raise"), jax.transfer_guard("disallow"):
        other = generate(model, letters, ["abcd"], max_new_tokens=12, rules=rules, sharding=MESHES[1]())
    row = letters.encode("abcd") + other.tokens.tolist()
    assert len(set(row)) == len(row)
    assert 5 not in row
    assert one.tokens.tolist() != other.tokens.tolist()


@pytest.fixture(scope="module")
def llama(evals):
    one_device = Mesh(np.array(jax.devices()[:1]), ("data",))
    return JaxLM(pretrained=str(evals / "parity" / "tiny-llama"), batch_size=8, mesh=one_device)


def test_max_length_counts_the_prompt(llama):
    prompt = "Question: Photosynthesis occurs in which of these organisms?\nAnswer:"
    size = len(llama.tokenizer.encode(prompt))
    whole = (prompt, {"until": [], "max_gen_toks": 20})
    part = (prompt, {"until": [], "max_gen_toks": 20, "max_length": size + 4})
    short, long = ask(llama, part, whole)
    assert long.startswith(short)
    assert 0 < len(short) < len(long)
    bad = (prompt, {"until": [], "max_gen_toks": 20, "max_length": size})
    with pytest.raises(
        ValueError, match=f"request 1: max_length is {size}, but the prompt already has {size} tokens"
    ):
        ask(llama, whole, bad)
    llama.on_bad_request = "skip"
    texts = ask(llama, bad, whole)
    llama.on_bad_request = "raise"
    assert texts == ["", long]


def test_texts_end_at_the_models_max_length(evals, tmp_path):
    folder = folder_with(evals, "tiny-llama", {"max_new_tokens": 40}, tmp_path / "model")
    lm = JaxLM(pretrained=str(folder), batch_size=4, mesh=MESHES[1]())
    keywords = {"until": [], "max_gen_toks": 8, "min_new_tokens": 40}
    with pytest.warns(
        UserWarning, match="1 of the texts may exceed the model's maximum length of 256 tokens"
    ):
        ask(lm, ("The cow jumped over the moon. " * 60, keywords), ("The cow", keywords))
    report = lm.report()["generation"]
    assert report["prompt_tokens"] == 248 + len(lm.tokenizer.encode("The cow"))
    assert report["generated_tokens"] == 8 + 40
