"""Functions are traced in the caller's context, and identical programs are compiled once."""

import contextvars
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval.api.instance import Instance

import windrow
import windrow.models
from byte_tokenizer import ByteTokenizer
from exhaustive import exhaustive
from reference_models import GPT2, LLAMA, MAMBA, logits, random_tensors, write
from small_model import head, hidden, init_state, naive_logprobs, prefix_model, step
from windrow.scoring import compiler
from windrow.scoring.lanes import products_by_ynnpack

PAIRS = [("ab", "c"), ("a", "bcd"), ("abcdefg", "hi")]
PROMPTS = ["ab", "xyz"]
ALL_PARTS = {"hidden": hidden, "head": head, "init_state": init_state, "step": step}
temperature = contextvars.ContextVar("temperature", default=1.0)
thread_settings = threading.local()


@contextmanager
def set_variable(value):
    token = temperature.set(value)
    yield
    temperature.reset(token)


@contextmanager
def set_local(value):
    thread_settings.scale = value
    yield
    del thread_settings.scale


class Head(nn.Module):
    """A bigram model as a typical Flax module, with a logical axis."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(256, 8, name="embed", embedding_init=nn.initializers.normal(1.0))(tokens)
        x = nn.with_logical_constraint(x, ("batch", None, "width"))
        return nn.Dense(256, name="head", kernel_init=nn.initializers.normal(1.0))(x)


def doubled(next_fun, args, kwargs, context):
    made = next_fun(*args, **kwargs)
    return made * 2 if context.module.name == "head" and context.method_name == "__call__" else made


def flax_model():
    module = Head()
    params = module.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    return windrow.LanguageModel(params, lambda params, tokens, *_: module.apply(params, tokens))


def scaled_model(read):
    model = prefix_model(256)
    return replace(model, apply=lambda *given: model.apply(*given) * read())


KINDS = {
    "context variable": (lambda: scaled_model(temperature.get), lambda: set_variable(2.0)),
    "thread-local": (
        lambda: scaled_model(lambda: getattr(thread_settings, "scale", 1.0)),
        lambda: set_local(2.0),
    ),
    "Flax interceptor": (flax_model, lambda: nn.intercept_methods(doubled)),
}


def requests():
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)]


def plain_logits(model, text):
    """Logits ``[16, 256]`` of a text padded to one length, so that they compile once."""
    tokens = jnp.array([list(text.ljust(16, b"\0"))])
    ones = jnp.ones_like(tokens)
    return np.asarray(model.apply(model.params, tokens, jnp.arange(16)[None], ones)[0])


def expected_scores(model):
    """Computed eagerly, one pair at a time, in the current context."""
    totals = []
    for context, continuation in PAIRS:
        text = context + continuation
        logprobs = jax.nn.log_softmax(plain_logits(model, text.encode()))
        at = range(len(context) - 1, len(text) - 1)
        totals.append(sum(float(logprobs[place, ord(text[place + 1])]) for place in at))
    return totals


def expected_tokens(model, prompt, count):
    text = prompt.encode()
    for _ in range(count):
        text += bytes([int(plain_logits(model, text)[len(text) - 1].argmax())])
    return list(text[len(prompt) :])


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("data",))


@contextmanager
def counted():
    """A list with one entry for each program that XLA compiles in this context."""
    counts = []

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            counts.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counts
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
@pytest.mark.parametrize("kind", KINDS)
def test_scores_follow_the_callers_context(kind):
    make, setting = KINDS[kind]
    model = make()
    lm = windrow.JaxLM(model, ByteTokenizer(), mesh=one_device())
    plain = expected_scores(model)
    with setting():
        changed = expected_scores(model)
        assert not np.allclose(plain, changed, atol=0.1)
        scores = windrow.score(model, ByteTokenizer(), PAIRS, sharding=one_device())
        np.testing.assert_allclose(scores.log_likelihoods, changed, atol=1e-4)
        np.testing.assert_allclose([total for total, _ in lm.loglikelihood(requests())], changed, atol=1e-4)
    np.testing.assert_allclose([total for total, _ in lm.loglikelihood(requests())], plain, atol=1e-4)
    scores = windrow.score(model, ByteTokenizer(), PAIRS, sharding=one_device())
    np.testing.assert_allclose(scores.log_likelihoods, plain, atol=1e-4)


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_generation_follows_the_callers_context():
    model = prefix_model(256)
    plainly = model.apply
    model = replace(model, apply=lambda *given: plainly(*given) * temperature.get())

    def texts():
        made = windrow.generate(
            model, ByteTokenizer(), PROMPTS, max_new_tokens=4, end_tokens=[], sharding=one_device()
        )
        return [made.tokens[start:stop].tolist() for start, stop in pairwise(made.offsets)]

    plain = texts()
    assert plain == [expected_tokens(model, prompt, 4) for prompt in PROMPTS]
    with set_variable(-1.0):
        changed = texts()
        assert changed == [expected_tokens(model, prompt, 4) for prompt in PROMPTS]
    assert changed != plain
    assert texts() == plain


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_logical_axis_rules_apply():
    """The rules map to a mesh axis that does not split rows; without rules nothing is constrained."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor"))
    where = NamedSharding(mesh, PartitionSpec("data"))
    seen = []
    model = flax_model()

    def apply(params, tokens, *_):
        seen.append(nn.get_logical_axis_rules())
        return Head().apply(params, tokens)

    model = replace(model, apply=apply)
    rules = (("batch", "data"), ("width", "tensor"))
    with nn.logical_axis_rules(rules):
        scores = windrow.score(model, ByteTokenizer(), PAIRS, sharding=where)
    np.testing.assert_allclose(scores.log_likelihoods, expected_scores(flax_model()), atol=1e-4)
    assert set(seen) == {rules}


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_callers_default_prng_impl_applies():
    kinds = []

    def apply(params, tokens, *_):
        kinds.append(str(jax.random.key_impl(jax.random.key(0))))
        return params[tokens]

    model = windrow.LanguageModel(jnp.zeros((256, 256)), apply)
    with jax.default_prng_impl("rbg"):
        windrow.score(model, ByteTokenizer(), PAIRS, sharding=one_device())
    assert set(kinds) == {"rbg"}


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
@pytest.mark.parametrize(
    "parts", [{}, {"hidden": hidden, "head": head, "init_state": init_state, "step": step}]
)
def test_next_checkpoint_reuses_compiled_programs(parts):
    """A new model object, new parameters and new function objects use the same programs."""

    def evaluate(seed):
        model = prefix_model(256, seed=seed, **parts)
        apply = model.apply
        model = replace(model, apply=lambda *given: apply(*given))
        scores = windrow.score(model, ByteTokenizer(), PAIRS)
        for (context, continuation), total in zip(PAIRS, scores.log_likelihoods, strict=True):
            known = naive_logprobs(model.params, (context + continuation).encode())[len(context) - 1 :]
            assert total == pytest.approx(sum(logprob for logprob, _ in known), abs=1e-4)
        windrow.generate(model, ByteTokenizer(), PROMPTS, max_new_tokens=5, end_tokens=[])
        lm = windrow.JaxLM(model, ByteTokenizer())
        lm.loglikelihood(requests())

    compiler.STORE.clear()
    with counted() as counts:
        evaluate(0)
        first = len(counts)
        prefix_model(256, seed=1)
        assert len(counts) == first > 3
        evaluate(1)
    assert len(counts) == first


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_shape_checked_before_the_run_is_traced_once():
    """Packed rows, four per program call."""
    traced, model = [], prefix_model(256)
    apply = model.apply

    def noting(params, tokens, positions, segment_ids):
        traced.append(tokens.shape)
        return apply(params, tokens, positions, segment_ids)

    model = replace(model, apply=noting, max_length=512)
    pairs = [(f"{number:03d}" * (1 + number % 160), "abc") for number in range(200)]
    policy = windrow.BatchPolicy(batch_size=8, pack=True)
    scores = windrow.score(model, ByteTokenizer(), pairs, policy=policy, sharding=one_device())
    plain = windrow.score(prefix_model(256), ByteTokenizer(), pairs, sharding=one_device())
    np.testing.assert_allclose(scores.log_likelihoods, plain.log_likelihoods, atol=1e-4)
    assert [shape for shape in traced if shape[0] == 4] == [(4, 482)]


@pytest.mark.parametrize("devices", [1, 2])
def test_ynnpack_runs_only_matrix_products(devices):
    """In jaxlib 0.10.2, its other fusions return NaN for some shapes, in most processes."""

    def function(x):
        return jax.nn.softmax(x @ x, axis=-1).sum(axis=-1)

    mesh, x = Mesh(np.array(jax.devices()[:devices]), ("data",)), jnp.ones((512, 512))
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
    programs = compiler.Compiler(mesh)
    programs.ask("sums", jax.jit(function, keep_unused=True), x)
    program = programs.get("sums")
    np.testing.assert_allclose(program(x), 1.0, rtol=1e-5)
    text = program.as_text()
    if version("jaxlib").startswith("0.10."):
        assert products_by_ynnpack(text)
        assert text.count('"__ynn_fusion"') == 1


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_program_store_is_bounded_and_holds_no_parameters(monkeypatch):
    compiler.STORE.clear()
    monkeypatch.setattr(compiler, "MOST_PROGRAMS", 3)
    for width in range(4, 9):
        model = prefix_model(256, width=width)
        scores = windrow.score(model, ByteTokenizer(), PAIRS, sharding=one_device())
        assert np.isfinite(scores.log_likelihoods).all()
        windrow.generate(
            model, ByteTokenizer(), PROMPTS, max_new_tokens=2, end_tokens=[], sharding=one_device()
        )
        assert len(compiler.STORE) <= 3
    assert len(compiler.STORE) == 3
    parameters = [weakref.ref(leaf) for leaf in jax.tree.leaves(model.params)]
    del model
    gc.collect()
    assert [reference() for reference in parameters] == [None, None]


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_programs_with_different_callbacks_are_distinct():
    """The program text identifies the callback by a number, which is the same for both."""

    def model(scale):
        def scaled(table):
            return np.asarray(table) * scale

        def apply(params, tokens, *_):
            table = jax.pure_callback(scaled, jax.ShapeDtypeStruct((256, 256), jnp.float32), params)
            return table[tokens]

        return windrow.LanguageModel(jax.random.normal(jax.random.key(0), (256, 256)), apply)

    for scale in (1.0, 3.0):
        scores = windrow.score(model(scale), ByteTokenizer(), PAIRS, sharding=one_device())
        np.testing.assert_allclose(scores.log_likelihoods, expected_scores(model(scale)), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_programs_that_use_different_parameters_are_distinct():
    params = {name: jax.random.normal(jax.random.key(at), (256, 256)) for at, name in enumerate("ab")}
    for name in "ab":
        model = windrow.LanguageModel(params, lambda params, tokens, *_, name=name: params[name][tokens])
        scores = windrow.score(model, ByteTokenizer(), PAIRS)
        np.testing.assert_allclose(scores.log_likelihoods, expected_scores(model), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_functions_run_eagerly_with_jit_disabled():
    """Under ``jax.disable_jit`` the model's functions see concrete values."""
    values = []
    model = prefix_model(256, **ALL_PARTS)

    def watched(params, tokens, positions, segment_ids):
        made = hidden(params, tokens, positions, segment_ids)
        if not isinstance(made, jax.core.Tracer):
            values.append(float(made.sum()))
        return made

    watching = replace(model, hidden=watched)
    options = {"max_new_tokens": 3, "end_tokens": [], "sharding": one_device()}
    plain = windrow.score(model, ByteTokenizer(), PAIRS, sharding=one_device()).log_likelihoods
    text = windrow.generate(model, ByteTokenizer(), PROMPTS, **options).texts
    with jax.disable_jit():
        scores = windrow.score(watching, ByteTokenizer(), PAIRS, sharding=one_device()).log_likelihoods
        assert values
        assert windrow.generate(model, ByteTokenizer(), PROMPTS, **options).texts == text
        with pytest.raises(ValueError, match="set batch_size or tokens_per_batch to a number"):
            windrow.score(model, ByteTokenizer(), PAIRS, policy=windrow.BatchPolicy(tokens_per_batch="auto"))
    np.testing.assert_allclose(scores, plain, atol=1e-5)


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
@pytest.mark.parametrize(
    "config",
    [LLAMA, exhaustive(GPT2), exhaustive(MAMBA)],
    ids=lambda config: config["model_type"],
)
def test_every_transfer_is_explicit(config, tmp_path):
    """Loading, scoring and generation work where implicit transfers are forbidden."""
    config = {**config, "vocab_size": 256}
    folder = write(tmp_path, config, random_tensors(config))
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor"))
    text = "abcdefgh"
    expected = jax.nn.log_softmax(logits(config, random_tensors(config), text.encode()))
    total = sum(float(expected[at, ord(text[at + 1])]) for at in range(3, 7))
    with jax.transfer_guard("disallow"):
        lm = windrow.JaxLM(pretrained=str(folder), tokenizer=ByteTokenizer(), mesh=mesh)
        made = lm.loglikelihood([Instance("loglikelihood", {}, (text[:4], text[4:]), 0)])
        texts = lm.generate_until([Instance("generate_until", {}, ("ab", {"max_gen_toks": 3}), 0)])
        scores = windrow.score(windrow.models.load(folder), ByteTokenizer(), [(text[:4], text[4:])])
    assert made[0][0] == pytest.approx(total, abs=1e-3)
    assert scores.log_likelihoods[0] == pytest.approx(total, abs=1e-3)
    assert texts == lm.generate_until([Instance("generate_until", {}, ("ab", {"max_gen_toks": 3}), 0)])


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_threads_share_a_model():
    """Each thread gets its own results, and the report's seconds cover all of them."""
    begin, model = perf_counter(), prefix_model(256, **ALL_PARTS)
    lm = windrow.JaxLM(model, ByteTokenizer(), mesh=one_device())
    expected = expected_scores(model)
    asked = [Instance("generate_until", {}, (prompt, {"max_gen_toks": 4}), 0) for prompt in PROMPTS]
    texts = lm.generate_until(asked)

    def work(number):
        if number % 3 == 2:
            return lm.generate_until(asked)
        return [total for total, _ in lm.loglikelihood(requests())]

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(work, range(12)))
    whole = perf_counter() - begin
    for number, result in enumerate(results):
        if number % 3 == 2:
            assert result == texts
        else:
            np.testing.assert_allclose(result, expected, atol=1e-4)
    report = lm.report()
    device = report["device_seconds"]
    seconds = [*report["seconds"].values(), *device["scoring"].values(), *device["generation"].values()]
    assert min(seconds) >= 0
    assert sum(report["seconds"].values()) <= 4 * whole


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
@pytest.mark.parametrize(
    "source", ["NumPy", exhaustive("one device"), exhaustive("the same mesh"), "another sharding"]
)
def test_new_parameters_get_the_models_sharding(source):
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor"))
    specs = {"embedding": PartitionSpec(None, "tensor"), "head": PartitionSpec("tensor", None)}
    where = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    first, second = (prefix_model(256, seed=seed, **ALL_PARTS) for seed in (0, 1))
    lm = windrow.JaxLM(replace(first, params=jax.device_put(first.params, where)), ByteTokenizer())
    asked = [Instance("generate_until", {}, (prompt, {"max_gen_toks": 4}), 0) for prompt in PROMPTS]
    before = lm.loglikelihood(requests()), lm.generate_until(asked)
    params = {
        "NumPy": lambda: jax.tree.map(np.asarray, second.params),
        "one device": lambda: second.params,
        "the same mesh": lambda: jax.device_put(second.params, where),
        "another sharding": lambda: jax.device_put(second.params, NamedSharding(mesh, PartitionSpec())),
    }[source]()
    lm.with_params(params)  # when a leaf moves between devices, JAX compiles one slice per shape
    with counted() as counts:
        other = lm.with_params(params)
        scores, texts = other.loglikelihood(requests()), other.generate_until(asked)
    assert counts == []
    for leaf, known in zip(
        jax.tree.leaves(other.model.params), jax.tree.leaves(lm.model.params), strict=True
    ):
        assert leaf.sharding == known.sharding
    fresh = windrow.JaxLM(second, ByteTokenizer())
    np.testing.assert_allclose(
        [total for total, _ in scores], [total for total, _ in fresh.loglikelihood(requests())], atol=1e-4
    )
    assert texts == fresh.generate_until(asked)
    assert other.report()["requests"] == len(PAIRS) + len(PROMPTS)
    assert (lm.loglikelihood(requests()), lm.generate_until(asked)) == before
    assert texts != before[1]


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_parameters_of_a_different_model_are_refused():
    lm = windrow.JaxLM(prefix_model(256), ByteTokenizer())
    table, matrix = (np.asarray(lm.model.params[name]) for name in ("embedding", "head"))
    wrong = {
        r"params\['head'\] is missing in the new parameters, a dict; pass the same tree of": {
            "embedding": table
        },
        r"params\['bias'\] is unexpected": {"embedding": table, "head": matrix, "bias": matrix},
        r"params\['head'\] is float32\[256, 8\], but was float32\[8, 256\]": {
            "embedding": table,
            "head": matrix.T,
        },
        r"params\['embedding'\] is float16\[256, 8\], but was float32\[256, 8\]": {
            "embedding": table.astype(np.float16),
            "head": matrix,
        },
        r"params\['head'\] is a str; params must contain only arrays": {"embedding": table, "head": "matrix"},
        "params must be a model's parameters, not a LanguageModel; pass model.params": lm.model,
    }
    for message, params in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            lm.with_params(params)
