"""Generation, compared with recorded texts, a naive loop, and the expected distributions of samples."""

import json
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tokenizers import decoders, models

import windrow
from exhaustive import exhaustive
from small_model import head, hidden, init_state, prefix_model, step
from windrow import BatchPolicy, LanguageModel
from windrow.generation import GenerationDefaults, Generator, Settings, read_defaults, read_settings
from windrow.generation.programs import Programs
from windrow.models import load
from windrow.scoring import Clock
from windrow.sharding import RowSharding
from windrow.tokens import generation_prompts, load_tokenizer

LETTERS = "abcdefghij"
MERGES = [("a", "b"), ("c", "d"), ("ab", "c"), ("e", "e")]
VOCAB = [*LETTERS, *(a + b for a, b in MERGES), "<s>", "</s>"]
END = len(VOCAB) - 1

MESHES = {
    1: lambda: Mesh(np.array(jax.devices()[:1]), ("data",)),
    8: lambda: Mesh(np.array(jax.devices()), ("data",)),
    "4x2": lambda: NamedSharding(
        Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor")), PartitionSpec("data")
    ),
}

with_step = {"init_state": init_state, "step": step}
with_head = {"hidden": hidden, "head": head}


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """A tokenizer with a few letters and merges, no pre-tokenization, and no added special tokens."""
    return save_tokenizer(tmp_path_factory.mktemp("letters"), {"eos_token": "</s>"})


def save_tokenizer(folder, config):
    made = tokenizers.Tokenizer(models.BPE({text: id for id, text in enumerate(VOCAB)}, MERGES))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["<s>", "</s>"])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(folder)


def generate(*arguments, sharding=None, **options):
    """Generates on one device unless a sharding is given."""
    return windrow.generate(*arguments, sharding=sharding or MESHES[1](), **options)


def letter_model(seed=0, **parts):
    return prefix_model(len(VOCAB), seed=seed, max_length=96, **parts)


def naive_tokens(model, prompt, limit):
    """Generates one token at a time from the whole text, in float64 NumPy."""
    embedding, matrix = (np.asarray(model.params[name], np.float64) for name in ("embedding", "head"))
    tokens = list(prompt)
    while len(tokens) < len(prompt) + limit and END not in tokens[len(prompt) :]:
        tokens.append(int((np.tanh(embedding[tokens].sum(0) / len(tokens)) @ matrix).argmax()))
    return tokens[len(prompt) :]


def mixed_prompts(count, seed=0):
    rng = np.random.default_rng(seed)
    prompts = ["".join(rng.choice(list(LETTERS), rng.integers(1, 40))) for _ in range(count)]
    return prompts, rng.integers(1, 30, count).tolist()


def tokens_of(made):
    return [made.tokens[a:b].tolist() for a, b in pairwise(made.offsets)]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    ("name", "stepping", "rows", "devices"),
    [
        ("llama", True, 1, 1),
        ("llama", True, 16, 8),
        ("llama", False, 4, 8),
        ("llama", False, 16, 1),
        ("gpt2", True, 4, 1),
        ("gpt2", True, 1, 8),
        ("gpt2", False, 16, 8),
        ("gpt2", False, 1, 1),
        ("mamba", True, 16, 1),
        ("mamba", True, 4, 8),
        ("mamba", False, 1, 8),
        ("mamba", False, 4, 1),
    ],
)
def test_recorded_texts_of_the_reference_backend(evals, name, stepping, rows, devices):
    folder = evals / "parity" / f"tiny-{name}"
    lines = (evals / "parity" / f"{name}.jsonl").read_text().split("\n")
    cases = [json.loads(line) for line in lines if '"generate_until"' in line]
    model, tokenizer = load(folder), load_tokenizer(folder)
    if not stepping:
        model = replace(model, init_state=None, step=None)
    defaults = read_defaults(folder, tokenizer.eos_token_id)
    settings = [read_settings(case["args"][1], defaults) for case in cases]
    prompts = generation_prompts(
        tokenizer,
        [case["args"][0] for case in cases],
        max_new_tokens=[one.max_new_tokens for one in settings],
        max_length=model.max_length,
    )
    sharding = RowSharding.over(MESHES[devices]())
    generator = Generator(model, tokenizer, sharding, Clock(), defaults, policy=BatchPolicy(batch_size=rows))
    texts = {}
    generator.run(prompts, settings, lambda index, generated: texts.update({index: generated.text}))
    assert len(cases) > 20
    for index, case in enumerate(cases):
        assert texts[index] == case["result"], case["args"]
    assert generator.report()["programs"] <= 7


@pytest.fixture
def cheap_programs(monkeypatch):
    """Makes compilation look cheap, as for a large model, so that every useful program is compiled."""
    monkeypatch.setattr("windrow.generation.generator.shape_price", lambda *_: 0)


@pytest.mark.usefixtures("cheap_programs")
@pytest.mark.parametrize(
    ("parts", "rows", "devices"),
    [
        ({}, 4, 1),
        exhaustive(with_head, 16, 8),
        exhaustive(with_step | with_head, 1, 1),
        (with_step | with_head, 4, "4x2"),
        exhaustive(with_step | with_head, 64, 1),
        (with_step | with_head, 16, 8),
    ],
    ids=lambda value: "+".join(value) or "apply" if isinstance(value, dict) else str(value),
)
def test_matches_a_naive_loop(letters, parts, rows, devices):
    model = letter_model(**parts)
    prompts, limits = mixed_prompts(40)
    made = generate(
        model, letters, prompts,
        max_new_tokens=limits, policy=BatchPolicy(batch_size=rows, max_shapes=3), sharding=MESHES[devices](),
    )  # fmt: skip
    expected = [
        naive_tokens(model, letters.encode(prompt), limit)
        for prompt, limit in zip(prompts, limits, strict=True)
    ]
    assert tokens_of(made) == expected
    assert {"end", "length"} == set(made.reasons)
    for text, tokens in zip(made, expected, strict=True):
        assert text == "".join(VOCAB[token] for token in tokens if token < len(VOCAB) - 2)
    assert made.report["generated_tokens"] == sum(map(len, expected))
    assert made.report["programs"] <= 7


@pytest.mark.parametrize(("rows", "devices"), [(16, 1), exhaustive(32, 8)])
def test_last_rows_move_to_fewer_slots(letters, monkeypatch, rows, devices):
    endless = {"hidden": hidden, "head": lambda *inputs: head(*inputs).at[:, END].set(-1e9)}
    model = letter_model(**with_step, **endless)
    prompts, _ = mixed_prompts(40)
    limits = [60, 60, *[3] * 38]
    monkeypatch.setattr("windrow.generation.generator.shape_price", lambda *_: 500)
    runs = []
    for moves in (False, True):
        monkeypatch.setattr(Programs, "ready", lambda self, *programs, moves=moves: moves)
        policy = BatchPolicy(batch_size=rows)
        options = {"policy": policy, "sharding": MESHES[devices](), "temperature": 0.5}
        runs.append(generate(model, letters, prompts, max_new_tokens=limits, **options))
    assert tokens_of(runs[0]) == tokens_of(runs[1])
    assert [len(tokens) for tokens in tokens_of(runs[1])] == limits
    assert runs[1].report["slot_use"] > 1.5 * runs[0].report["slot_use"]


def test_small_model_compiles_no_extra_programs(letters):
    prompts, limits = mixed_prompts(40)
    options = {"max_new_tokens": limits, "policy": BatchPolicy(batch_size=16)}
    made = generate(letter_model(**with_step | with_head), letters, prompts, **options)
    assert made.report["programs"] == 3


def test_logits_of_step_without_head(letters):
    def logits_step(params, state, *inputs):
        state, last = step(params, state, *inputs)
        return state, head(params, last)

    prompts, limits = mixed_prompts(10)
    whole = generate(letter_model(**with_step, **with_head), letters, prompts, max_new_tokens=limits)
    plain = letter_model(init_state=init_state, step=logits_step)
    assert tokens_of(generate(plain, letters, prompts, max_new_tokens=limits)) == tokens_of(whole)


@pytest.mark.parametrize("chunk_length", [exhaustive(1), 7])
def test_prompts_read_in_chunks(letters, chunk_length):
    model = letter_model(**with_step, **with_head)
    prompts, limits = mixed_prompts(10)
    whole = generate(model, letters, prompts, max_new_tokens=limits)
    chunked = generate(model, letters, prompts, max_new_tokens=limits, chunk_length=chunk_length)
    assert tokens_of(chunked) == tokens_of(whole)


def recording_lengths(model, asked):
    """The model, with a state of the requested length; ``asked`` collects the requests."""

    def state_of(params, rows, length):
        asked.append(length)
        return init_state(params, rows), jnp.zeros((rows, length))

    def state_step(params, state, *inputs):
        sums, last = step(params, state[0], *inputs)
        return (sums, state[1]), last

    return replace(model, init_state=state_of, step=state_step, **with_head)


@pytest.mark.parametrize(("max_length", "longest"), [(100_000, 64), (50, 50)])
def test_state_is_as_long_as_the_longest_row(letters, max_length, longest):
    plain = replace(letter_model(**with_step, **with_head), max_length=max_length)
    prompts, limits = ["abcdefghij" * 5, "ab", "hi"], [13, 30, 7]  # the first has 35 tokens
    asked = []
    made = generate(recording_lengths(plain, asked), letters, prompts, max_new_tokens=limits)
    assert max(asked) == longest
    assert tokens_of(made) == tokens_of(generate(plain, letters, prompts, max_new_tokens=limits))


def test_identical_runs_share_programs(letters):
    defaults, policy = GenerationDefaults((END,)), BatchPolicy(batch_size=4)
    model, sharding = recording_lengths(letter_model(), []), RowSharding.over(MESHES[1]())
    generator = Generator(model, letters, sharding, Clock(), defaults, policy=policy)
    for limit in (20, 17, 23):
        prompts = generation_prompts(letters, ["abcdefghij"] * 4, max_new_tokens=[limit] * 4, max_length=96)
        generator.run(prompts, [Settings(limit)] * 4, lambda index, generated: None)
        assert generator.report()["programs"] == 3


@pytest.mark.parametrize("temperature", [exhaustive(0.0), 1.3])
def test_other_prompts_order_and_slots_change_nothing(letters, temperature):
    model = letter_model(**with_step, **with_head)
    prompts, limits = mixed_prompts(40)
    options = {"temperature": temperature, "top_k": 9, "top_p": 0.95, "seed": 3}

    def run(which, rows, devices):
        order = []
        made = generate(
            model, letters, [prompts[i] for i in which],
            max_new_tokens=[limits[i] for i in which], policy=BatchPolicy(batch_size=rows),
            sharding=MESHES[devices](), finished=lambda index, _: order.append(which[index]), **options,
        )  # fmt: skip
        return dict(zip(which, tokens_of(made), strict=True)), order

    everything, order = run(list(range(40)), 8, 1)
    shuffled, other_order = run(np.random.default_rng(1).permutation(40).tolist(), 16, 8)
    few, _ = run([5, 17, 30], 1, 1)
    assert order != other_order
    assert sorted(order) == sorted(other_order) == list(range(40))
    assert shuffled == everything
    assert few == {index: everything[index] for index in few}


def constant_model(logits):
    """A model whose logits are the same at every position."""

    def constant(params, tokens, *_):
        return jnp.broadcast_to(params, (*tokens.shape, len(params)))

    return LanguageModel(
        jnp.asarray(logits, jnp.float32),
        constant,
        init_state=lambda params, rows: jnp.zeros((rows, 1)),
        step=lambda params, state, tokens, *_: (state, constant(params, tokens)),
    )


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [exhaustive(0.7, 0, 1.0), exhaustive(1.5, 5, 1.0), (0.9, 6, 0.9)]
)
def test_samples_have_the_right_distribution(letters, temperature, top_k, top_p):
    logits = np.random.default_rng(7).normal(size=len(VOCAB)) * 1.5
    logits[END] = -1e9
    made = generate(
        constant_model(logits), letters, ["a", "b"] * 40,
        max_new_tokens=100, temperature=temperature, top_k=top_k, top_p=top_p, seed=11,
    )  # fmt: skip
    expected = naive_distribution(logits, temperature, top_k, top_p)
    counts = np.bincount(made.tokens, minlength=len(VOCAB))
    assert counts.sum() == 8000
    assert not counts[expected == 0].any()
    possible = expected > 0
    wanted = expected[possible] * counts.sum()
    chi_square = ((counts[possible] - wanted) ** 2 / wanted).sum()
    freedom = possible.sum() - 1
    # Wilson and Hilferty's approximation of the 99.9 % quantile.
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.09 * np.sqrt(2 / (9 * freedom))) ** 3
    # Consecutive tokens are independent, so pairs have the product distribution.
    table = tokens_of(made)
    same = np.mean([a == b for tokens in table for a, b in pairwise(tokens)])
    assert same == pytest.approx((expected**2).sum(), abs=0.02)
    assert len({tuple(tokens) for tokens in table}) == len(table)


def naive_distribution(logits, temperature, top_k, top_p):
    """Adds tokens one by one, most likely first."""
    scaled = np.asarray(logits, np.float64) / temperature
    order = np.argsort(-scaled)[: top_k or None]
    probabilities = np.exp(scaled[order] - scaled.max())
    probabilities /= probabilities.sum()
    kept = np.zeros(len(scaled))
    before = 0.0
    for token, probability in zip(order, probabilities, strict=True):
        if before < top_p:
            kept[token] = probability
        before += probability
    return kept / kept.sum()


def test_seeds_and_repeats(letters):
    model = letter_model(**with_step, **with_head)

    def run(seed):
        options = {"max_new_tokens": 20, "temperature": 3.0, "seed": seed}
        return tokens_of(generate(model, letters, ["abc", "abc", "ba"], **options))

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(1)[0] != run(1)[1]


def test_ties_take_the_lowest_token(letters):
    model = constant_model([0.0, 1.0, 1.0] + [0.0] * (len(VOCAB) - 3))
    assert set(generate(model, letters, ["a"], max_new_tokens=5).tokens.tolist()) == {1}


def test_end_tokens(letters, tmp_path):
    likely_c = constant_model(np.eye(len(VOCAB))[2])
    assert generate(likely_c, letters, ["a"], max_new_tokens=5).texts == ["ccccc"]
    made = generate(likely_c, letters, ["a"], max_new_tokens=5, end_tokens=[7, 2])
    assert (made.texts, made.reasons) == (["c"], ("end",))
    likely_end = constant_model(np.eye(len(VOCAB))[END])
    made = generate(likely_end, letters, ["a"], max_new_tokens=5)
    assert (made.texts, made.tokens.tolist(), made.reasons) == ([""], [END], ("end",))
    tokenizer = save_tokenizer(tmp_path, {})
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert generate(likely_c, tokenizer, ["a"], max_new_tokens=5).texts == ["c"]


def test_end_tokens_outside_the_vocabulary_cause_a_warning(letters):
    with pytest.warns(UserWarning, match=rf"no end token \({END}\) is in the model's vocabulary of 5 tokens"):
        made = generate(constant_model([0.0, 0.0, 1.0, 0.0, 0.0]), letters, ["a"], max_new_tokens=3)
    assert (made.texts, made.reasons) == (["ccc"], ("length",))


def scripted_model(text):
    """Generates a fixed text whatever the prompt, and then repeats its first token."""
    script = jnp.array([VOCAB.index(piece) for piece in text] + [VOCAB.index(text[0])] * 90)

    def logits(params, tokens, positions, segment_ids):
        return jax.nn.one_hot(params[positions], len(VOCAB)) * 5

    return LanguageModel(
        script, logits, 90, init_state=lambda params, rows: jnp.zeros(rows),
        step=lambda params, state, *inputs: (state, logits(params, *inputs)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "made"),
    [
        (["a", "b", "c", "d"], ["bc"], "a", 3),  # spans two tokens
        (["ab", "cd", "e", "f"], ["bc"], "a", 2),  # starts and ends within tokens
        (["a", "b", "c", "d"], ["cd", "abc"], "", 3),  # overlapping: the first to be complete ends the text
        (["a", "b", "c", "d"], ["", "c"], "a", 1),  # an empty string matches at once, and cuts nothing
        (["a", "b", "c", "d"], ["", ""], "a", 1),
        (["ee", "e", "f", "a"], ["eef"], "e", 3),
        (["ab", "c", "ab", "c"], "bca", "a", 3),  # a single string
        (["a", "</s>", "b", "b"], ["b"], "a", 2),  # the end token comes first
        (["a", "<s>", "b", "b"], ["ab"], "abbaa", 6),  # a special token in between prevents the match
        (["a", "<s>", "b", "b"], ["<s>"], "a", 2),  # a special token is a stop string
    ],
)
@pytest.mark.parametrize("stepping", [True, exhaustive(False)])
def test_stop_strings(letters, pieces, stops, text, made, stepping):
    model = scripted_model(pieces)
    if not stepping:
        model = replace(model, init_state=None, step=None)
    result = generate(model, letters, ["j"], max_new_tokens=6, stop=stops)
    if pieces == ["a", "<s>", "b", "b"] and stops == ["ab"]:
        # The special token hides the stop string during generation, but not in the final text.
        text = ""
    assert (result.texts[0], len(result.tokens)) == (text, made)


def test_bad_arguments_are_named(letters):
    model = letter_model(**with_step, **with_head)
    for options, message in [
        ({"max_new_tokens": 0}, "max_new_tokens must be a positive whole number, not 0"),
        ({"max_new_tokens": [1, 2]}, "max_new_tokens has 2 numbers for 1 prompts"),
        ({"max_new_tokens": 96}, "request 0: .*96"),
        ({"stop": ["a", 1]}, "a stop string must be a string, not 1"),
        ({"temperature": -1.0}, "temperature must be a number of at least 0, not -1.0"),
        ({"temperature": "hot"}, "temperature must be a number of at least 0, not 'hot'"),
        ({"temperature": float("nan")}, "temperature must be a number of at least 0, not nan"),
        ({"top_k": -1}, "top_k must be a whole number of at least 0"),
        ({"top_p": 0.0}, "top_p must be a number above 0 and at most 1"),
        ({"seed": "a"}, "seed must be a whole number of at least 0, not 'a'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"end_tokens": ["a"]}, r"end_tokens must be token ids, .*, not \('a',\)"),
        ({"end_tokens": [2, 99]}, rf"end_tokens\[1\] is 99; the model's vocabulary has {len(VOCAB)} tokens"),
        ({"chunk_length": 0}, "chunk_length must be a whole number of at least 1, or None, not 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            generate(model, letters, ["a"], **{"max_new_tokens": 4, **options})
    with pytest.raises(TypeError, match=r"finished must be a function of a prompt's index and .*, not 5"):
        generate(model, letters, ["a"], max_new_tokens=4, finished=5)
    with pytest.raises(TypeError, match="prompts must be a sequence of strings, not one string"):
        generate(model, letters, "ab", max_new_tokens=4)
    for name, given in [("stop", None), ("end_tokens", 5)]:
        with pytest.raises(TypeError, match=f"{name} must be a sequence of .*, not {given}"):
            generate(model, letters, ["a"], max_new_tokens=4, **{name: given})
    with pytest.raises(TypeError, match=r"rules must be a windrow.generation.Rules, not a dict"):
        generate(model, letters, ["a"], max_new_tokens=4, rules={"min_length": 2})
    with pytest.raises(ValueError, match="chunk_length needs a model with init_state and step"):
        generate(letter_model(), letters, ["a"], max_new_tokens=4, chunk_length=2)
    with pytest.raises(ValueError, match="request 0: token 9 is outside the model's vocabulary of 5"):
        generate(constant_model(np.zeros(5)), letters, ["j"], max_new_tokens=4)
    with pytest.raises(ValueError, match="request 1: "):
        generate(model, letters, ["a", ""], max_new_tokens=4)
    skipped = generate(model, letters, ["a", ""], max_new_tokens=4, on_bad_request="skip")
    assert (skipped.texts[1], skipped.reasons[1], skipped.skipped.tolist()) == ("", "skipped", [1])
    assert generate(model, letters, []).texts == []
    both = generate(model, letters, ["a", "b"], max_new_tokens=np.array([1, 3]))
    assert np.diff(both.offsets).tolist() == [1, 3]


def test_state_without_rows_is_refused(letters):
    model = replace(constant_model(np.zeros(len(VOCAB))), init_state=lambda params, rows: jnp.zeros(()))
    with pytest.raises(
        ValueError,
        match=r"returns state with shape \(\); the leading axis of each leaf must have a length",
    ):
        generate(model, letters, ["a"], sharding=MESHES[1]())


def test_state_may_be_empty(letters):
    """A stateless model's state may have an axis of length 0."""
    plain = constant_model(np.arange(len(VOCAB), dtype=np.float32))
    model = replace(plain, init_state=lambda params, rows: jnp.zeros((rows, 0)))
    assert (
        generate(model, letters, ["a", "b"], max_new_tokens=3).texts
        == generate(plain, letters, ["a", "b"], max_new_tokens=3).texts
    )
