"""Mistakes with modules of other libraries are reported in one line, with a remedy, before the run."""

import re
import warnings

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.sharding import Mesh

import windrow
from byte_tokenizer import ByteTokenizer
from windrow import LanguageModel, adapters, check_model
from windrow.tokens import load_tokenizer

VOCAB, WIDTH = 256, 8
TABLE = jnp.zeros((VOCAB, VOCAB))
ONE = jnp.ones((1, 4), jnp.int32)
pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")


def scored(model, **options):
    return windrow.score(model, ByteTokenizer(), [("a", "b")], **options).log_likelihoods


class OfNNX(nnx.Module):
    def __init__(self, between):
        self.embed = nnx.Embed(VOCAB, WIDTH, rngs=nnx.Rngs(0))
        self.between = between
        self.head = nnx.Linear(WIDTH, VOCAB, rngs=nnx.Rngs(1))

    def __call__(self, tokens):
        return self.head(self.between(self.embed(tokens)))


def dropout():
    return OfNNX(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))


class OfLinen(linen.Module):
    @linen.compact
    def __call__(self, tokens, deterministic=False):
        x = linen.Embed(VOCAB, WIDTH)(tokens)
        return linen.Dense(VOCAB)(linen.Dropout(0.5, deterministic=deterministic)(x))


def variables():
    return OfLinen().init(jax.random.key(0), ONE, deterministic=True)


class OfEquinox(equinox.Module):
    embed: equinox.nn.Embedding
    dropout: equinox.nn.Dropout

    def __init__(self):
        self.embed = equinox.nn.Embedding(VOCAB, VOCAB, key=jax.random.key(0))
        self.dropout = equinox.nn.Dropout(0.5)

    def __call__(self, tokens, key=None):
        return self.dropout(jax.vmap(self.embed)(tokens), key=key)


def split_nnx(module, *filters, call=lambda module, tokens: module(tokens)):
    graph, params, *_ = nnx.split(module, *filters)
    return LanguageModel(params, lambda params, tokens, *_: call(nnx.merge(graph, params), tokens))


def split_equinox(**named):
    params, rest = equinox.partition(OfEquinox(), equinox.is_array)

    def apply(params, tokens, *_):
        return jax.vmap(lambda row: equinox.combine(params, rest)(row, **named))(tokens)

    return LanguageModel(params, apply)


def of_linen(params, **named):
    return LanguageModel(params, lambda params, tokens, *_: OfLinen().apply(params, tokens, **named))


IN_TRAINING = {
    "NNX, dropout": (lambda: split_nnx(dropout()), "call module.eval() before nnx.split"),
    "NNX, batch statistics": (
        lambda: split_nnx(OfNNX(nnx.BatchNorm(WIDTH, rngs=nnx.Rngs(0)))),
        "call module.eval() before nnx.split",
    ),
    "NNX, attention": (
        lambda: split_nnx(
            OfNNX(nnx.MultiHeadAttention(1, WIDTH, decode=False, dropout_rate=0.5, rngs=nnx.Rngs(0)))
        ),
        "call module.eval() before nnx.split",
    ),
    "NNX, not all of the state": (
        lambda: split_nnx(OfNNX(jnp.tanh), nnx.PathContains("head"), ...),
        "pass everything but the graph that nnx.split returned, and merge all of it",
    ),
    "NNX, a jitted call": (
        lambda: split_nnx(OfNNX(jnp.tanh), call=nnx.jit(lambda module, tokens: module(tokens))),
        "leave out nnx.jit, because windrow compiles the functions itself",
    ),
    "Linen": (lambda: of_linen(variables()), "dropout is on: pass deterministic=True"),
    "Equinox": (split_equinox, "dropout is on: use equinox.nn.inference_mode(module)"),
    "Linen, batch statistics": (
        lambda: LanguageModel(
            (batch_norm := linen.BatchNorm(use_running_average=False)).init(jax.random.key(0), TABLE),
            lambda params, tokens, *_: batch_norm.apply(params, TABLE[tokens]),
        ),
        "pass what turns off training and decoding, such as use_running_average=True",
    ),
    "Linen, the parameters alone": (
        lambda: of_linen(variables()["params"], deterministic=True),
        "params must be the variables that module.init returned",
    ),
}


@pytest.mark.parametrize("kind", IN_TRAINING)
def test_modules_that_cannot_run_as_given(kind):
    make, remedy = IN_TRAINING[kind]
    called = "apply is called as apply(params, tokens, positions, segment_ids), which failed: "
    with pytest.raises(TypeError, match=f"^{re.escape(called)}[^\n]*{re.escape(remedy)}[^\n]*$"):
        scored(make())
    assert remedy in check_model(make())["contract"].message


DRAWING = {
    "Linen": lambda: of_linen(variables(), rngs={"dropout": jax.random.key(0)}),
    "Equinox": lambda: split_equinox(key=jax.random.key(0)),
    "an old key in a loop": lambda: LanguageModel(
        TABLE,
        lambda table, tokens, *_: jax.lax.map(
            lambda row: table[row] + jax.random.normal(jax.random.PRNGKey(0), (len(row), 1)), tokens
        ),
    ),
}


@pytest.mark.parametrize("kind", DRAWING)
def test_random_number_warning_points_to_the_callers_line(kind):
    with pytest.warns(
        UserWarning, match="apply draws random numbers, .* if this is dropout, turn it"
    ) as caught:
        scored(DRAWING[kind]())
    assert {each.filename for each in caught} == {__file__}


def test_unused_random_keys_cause_no_warning():
    def apply(table, tokens, *_):
        jax.random.split(jax.random.key(0))
        return table[tokens]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="tokenizer .* encodes in Python")
        scored(LanguageModel(TABLE, apply))
        scored(adapters.from_nnx(dropout()))


def test_adapters_load_on_first_use(monkeypatch):
    monkeypatch.delattr(windrow, "adapters")
    assert windrow.adapters is adapters


def test_text_longer_than_the_model_supports():
    params = {"table": TABLE, "positions": jnp.zeros((16, VOCAB))}

    def apply(params, tokens, *_):
        return params["table"][tokens] + params["positions"][None, : tokens.shape[1]]

    calls = (windrow.score, [("a", "b" * 20)], {}), (windrow.generate, ["a" * 20], {"max_new_tokens": 4})
    for max_length, expected in ((None, "if that is too long for the model, set max_length"), (32, "is 32")):
        for call, requests, options in calls:
            with pytest.raises(TypeError, match="incompatible shapes for broadcasting") as raised:
                call(LanguageModel(params, apply, max_length), ByteTokenizer(), requests, **options)
            assert re.search(
                rf"^raised by apply\(.*of shape \[8, \d+\]; .*{expected}$", raised.value.__notes__[0]
            )


def test_parameter_that_must_be_static():
    def apply(params, tokens, *_):
        return params["table"][tokens].reshape(*tokens.shape, params["heads"], -1)

    message = r"concrete values .*; params\['heads'\] is traced, like all of params: keep sizes and flags in"
    with pytest.raises(TypeError, match=message):
        scored(LanguageModel({"table": TABLE, "heads": 4}, apply))


def test_other_errors_keep_their_type_and_name_the_function():
    def apply(params, tokens, *_):
        raise LookupError("no such layer")

    model = LanguageModel(TABLE, apply)
    with pytest.raises(LookupError, match="no such layer") as raised:
        scored(model)
    assert (
        "raised by apply(params, tokens, positions, segment_ids), when windrow" in raised.value.__notes__[0]
    )
    found = check_model(model)
    assert not found.passed
    assert found["contract"].message.startswith("LookupError: no such layer, raised by apply(params, ")


def linen_with(*names):
    """A Linen module whose ``__call__`` takes these parameters."""
    space = {}
    exec(f"def __call__(self, {', '.join(names)}): pass", space)
    return type("Module", (linen.Module,), {"__call__": space["__call__"]})()


MISPLACED = {
    "deterministic would get positions": ("tokens", "deterministic=True"),
    "train would get positions": ("tokens", "train=False", "mask=None"),
    "attention_mask would get positions": ("input_ids", "attention_mask=None", "position_ids=None"),
    "segment_ids would get positions": ("tokens", "segment_ids=None", "positions=None"),
    "mask would get segment_ids": ("tokens", "positions", "mask=None"),
    "is_training would get segment_ids": ("tokens", "positions", "is_training=False"),
}


@pytest.mark.parametrize("shown", MISPLACED)
def test_module_apply_with_misplaced_arguments(shown):
    module = linen_with(*MISPLACED[shown])
    with pytest.raises(
        TypeError, match=f"^apply is called as .*, but Module.__call__ takes .*; .* {shown}. Use"
    ):
        LanguageModel(TABLE, module.apply)


@pytest.mark.parametrize(
    "names",
    [
        ("tokens", "positions", "segment_ids"),
        ("x", "pos", "padding_mask"),
        ("*batch",),
        ("tokens", "a", "b=1"),
    ],
)
def test_module_apply_with_arguments_in_place(names):
    LanguageModel(TABLE, linen_with(*names).apply)


def test_cache_or_key_in_place_of_positions():
    for third, shown in (
        ("cache=None", "cache"),
        ("past_key_values=None", "past_key_values"),
        ("rng", "rng"),
    ):
        apply = eval(f"lambda params, tokens, {third}, mask=None: 0")
        with pytest.raises(TypeError, match=rf"its parameter {shown} would get positions$"):
            LanguageModel(TABLE, apply)


def test_functions_with_reordered_parameters():
    def model(apply, **parts):
        return LanguageModel(TABLE, apply, **parts)

    with pytest.raises(TypeError, match=r"its parameter segment_ids would get positions$"):
        model(lambda params, tokens, segment_ids, positions: 0)
    with pytest.raises(TypeError, match=r"its parameter tokens would get params$"):
        model(lambda tokens, params, *_: 0)
    state_first = {"init_state": lambda params, rows: 0, "step": lambda state, params, *batch: 0}
    with pytest.raises(TypeError, match=r"^step is called as .* its parameter state would get params$"):
        model(lambda *given: 0, **state_first)
    model(lambda train_state, tokens, position_ids, mask: 0)


MODULES = {
    "from_nnx(module)": dropout,
    "from_linen(module, variables)": OfLinen,
    "from_equinox(module)": OfEquinox,
}


@pytest.mark.parametrize("wrapper", MODULES)
def test_module_instead_of_a_model(wrapper, tmp_path):
    module = MODULES[wrapper]()
    calls = [
        lambda: windrow.score(module, ByteTokenizer(), ["a"]),
        lambda: windrow.generate(module, ByteTokenizer(), ["a"]),
        lambda: windrow.score_stream(module, ByteTokenizer(), ["a"], tmp_path / "scores"),
        lambda: windrow.JaxLM(module, ByteTokenizer()),
        lambda: check_model(module),
    ]
    named = f"model must be a windrow.LanguageModel, not an {type(module).__name__}; use windrow.adapters."
    for call in calls:
        with pytest.raises(TypeError, match=f"^{re.escape(named + wrapper)}$"):
            call()


def make_module():
    return dropout(), ByteTokenizer()


def test_a_factory_that_returns_a_module():
    message = r"not \(OfNNX, ByteTokenizer\); use windrow.adapters.from_nnx\(module\)$"
    with pytest.raises(TypeError, match=message):
        windrow.JaxLM(factory=f"{__name__}:make_module")


def test_adapter_for_another_kind_of_module():
    with pytest.raises(
        TypeError, match=r"^from_nnx takes an instance of flax.nnx.Module, not the class OfNNX$"
    ):
        adapters.from_nnx(OfNNX)
    with pytest.raises(TypeError, match=r"not an OfEquinox$"):
        adapters.from_nnx(OfEquinox())
    with pytest.raises(TypeError, match=r"^from_linen takes an instance of flax.linen.Module, not a dict$"):
        adapters.from_linen(variables(), OfLinen())
    with pytest.raises(TypeError, match=r"^variables must be what module.init returned, a dict, not None$"):
        adapters.from_linen(OfLinen(), None)
    with pytest.raises(TypeError, match=r"^from_equinox takes an instance of equinox.Module, not a tuple$"):
        adapters.from_equinox((OfEquinox(), None))
    with pytest.raises(TypeError, match=r"^from_equinox calls the module, but Dropless has no __call__$"):
        adapters.from_equinox(type("Dropless", (equinox.Module,), {})())


def test_a_module_that_is_not_written_for_one_row():
    class OfBatches(OfEquinox):
        def __call__(self, tokens):
            return jax.vmap(jax.vmap(self.embed))(tokens)

    model = adapters.from_equinox(OfBatches())
    expected = "raised by OfBatches.__call__, which from_equinox calls with one row, int32[length], at a time"
    assert expected in check_model(model)["contract"].message


def test_modules_with_other_required_arguments():
    class Asking(OfEquinox):
        def __call__(self, tokens, mask, *, key):
            return jax.vmap(self.embed)(tokens)

    message = (
        "^Asking.__call__ requires key, but from_equinox passes only tokens, positions, .*; give it a default"
    )
    with pytest.raises(TypeError, match=message):
        adapters.from_equinox(Asking())
    with pytest.raises(TypeError, match=r"^Module.__call__ requires train, but from_linen passes only"):
        adapters.from_linen(linen_with("tokens", "positions", "train"), {})


def stepping(**changes):
    """A model whose state is one leaf, with replaceable functions."""
    parts = {
        "init_state": lambda params, rows: {"at": jnp.zeros((rows, 1))},
        "step": lambda params, state, tokens, *_: (state, params[tokens]),
    }
    return LanguageModel(TABLE, lambda params, tokens, *_: params[tokens], **parts | changes)


WRONG = {
    "one number for each token": (
        lambda: LanguageModel(TABLE, lambda params, tokens, *_: params[tokens].argmax(axis=2)),
        r"expected \[2, 8, size\] here; return the logits, not one number for each token",
    ),
    "time before rows": (
        lambda: LanguageModel(TABLE, lambda params, tokens, *_: params[tokens.T]),
        r"returned shape \(8, 2, 256\); expected \[2, 8, size\] here; swap its first two axes",
    ),
    "one row for all": (
        lambda: LanguageModel(TABLE, lambda params, tokens, *_: params[tokens[0]][None]),
        r"apply returned shape \(1, 8, \d+\); expected \[2, 8, size\] here; if it is written for one row",
    ),
    "a function of one row": (
        lambda: LanguageModel(TABLE, lambda params, tokens, *_: params[tokens[0]]),
        "written for one row, map it over the rows with jax.vmap",
    ),
    "the last position alone": (
        lambda: LanguageModel(TABLE, lambda params, tokens, *_: params[tokens[:, -1]]),
        "return an output at every position, not only at the last one",
    ),
    "a number in the state": (
        lambda: stepping(init_state=lambda params, rows: {"at": 0}),
        r"returns state\['at'\] with shape \(\); .* keep a number, such as a write index, once per row",
    ),
    "a new leaf": (
        lambda: stepping(step=lambda params, state, tokens, *_: ({**state, "x": tokens}, params[tokens])),
        r"different structure than init_state: state\['x'\] is new; return the same structure",
    ),
    "a lost leaf": (
        lambda: stepping(step=lambda params, state, tokens, *_: ({}, params[tokens])),
        r"different structure than init_state: state\['at'\] is missing",
    ),
    "another kind": (
        lambda: stepping(step=lambda params, state, tokens, *_: (state["at"], params[tokens])),
        r"different structure than init_state: an array \[2, 1\], not a dict with 'at'",
    ),
    "lists of numbers": (
        lambda: LanguageModel([[0.0] * 64] * 64, lambda params, tokens, *_: jnp.asarray(params)[tokens]),
        r"params has 4,096 Python numbers, such as params\[0\]\[0\]; turn lists of numbers into arrays",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_shapes_states_and_parameters_name_a_remedy(what):
    make, message = WRONG[what]
    with pytest.raises((TypeError, ValueError), match=message):
        scored(make(), sharding=Mesh(np.array(jax.devices()[:1]), ("data",)))


def test_functions_that_need_the_values_of_arrays():
    functions = (
        lambda params, tokens, *_: params[np.asarray(tokens)],
        lambda params, tokens, *_: params[tokens] if (tokens > 0).any() else params[tokens] + 1,
        lambda params, tokens, *_: float(params[0, 0]) * params[tokens],
    )
    for apply in functions:
        with pytest.raises(TypeError) as raised:
            scored(LanguageModel(TABLE, apply))
        assert re.search(r"^raised by apply.*; use jax.numpy in place of numpy", raised.value.__notes__[0])


def test_parameters_that_are_being_traced():
    @jax.jit
    def evaluated(table):
        return scored(LanguageModel({"table": table}, lambda params, tokens, *_: params["table"][tokens]))

    with pytest.raises(TypeError, match=r"^params\['table'\] has no values yet, .* outside jax.jit"):
        evaluated(TABLE)


def test_error_in_init_state_names_it():
    def init_state(params, rows):
        raise LookupError("no such layer")

    with pytest.raises(LookupError) as raised:
        scored(stepping(init_state=init_state))
    assert "raised by init_state(params, rows), when windrow traced it" in raised.value.__notes__


def test_probabilities_instead_of_logits():
    following = jnp.roll(8 * jnp.eye(256), 1, axis=1) + TABLE

    def score(of):
        model = LanguageModel(following, lambda table, tokens, *_: of(table[tokens]))
        tokenizer = load_tokenizer(ByteTokenizer(), prefix_token_id=0)
        windrow.score(model, tokenizer, ["abcdefghijklmnopqrstuvwxyz, a text"])

    with pytest.warns(UserWarning, match="the model seems to return probabilities: .* Return logits"):
        score(jax.nn.softmax)
    found = check_model(LanguageModel(following, lambda table, tokens, *_: jax.nn.softmax(table[tokens])))
    assert [check.name for check in found.failed] == ["logits"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="tokenizer .* encodes in Python")
        for of in (jnp.asarray, jax.nn.log_softmax, jnp.zeros_like, lambda logits: 1e-3 * logits):
            score(of)
