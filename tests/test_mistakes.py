"""Mistakes with modules of other libraries are reported in one line, with a remedy, before anything runs."""

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


def split_nnx(module):
    graph, params = nnx.split(module)
    return LanguageModel(params, lambda params, tokens, *_: nnx.merge(graph, params)(tokens))


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
    "Linen": (lambda: of_linen(variables()), "dropout is on: pass deterministic=True"),
    "Equinox": (split_equinox, "dropout is on: use equinox.nn.inference_mode(module)"),
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
def test_the_warning_about_random_numbers_is_at_the_callers_line(kind):
    with pytest.warns(
        UserWarning, match="apply draws random numbers, .* if this is dropout, turn it"
    ) as told:
        scored(DRAWING[kind]())
    assert {each.filename for each in told} == {__file__}


def test_no_warning_about_keys_without_draws():
    def apply(table, tokens, *_):
        jax.random.split(jax.random.key(0))
        return table[tokens]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="tokenizer .* encodes in Python")
        scored(LanguageModel(TABLE, apply))
        scored(adapters.from_nnx(dropout()))


def test_a_number_among_the_parameters_that_must_be_known():
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
    """A Linen module whose ``__call__`` has these parameters."""
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
def test_a_modules_apply_that_would_get_an_array_in_anothers_place(shown):
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
def test_a_modules_apply_with_the_right_places(names):
    LanguageModel(TABLE, linen_with(*names).apply)


def test_functions_with_their_parameters_in_another_order():
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
def test_a_module_instead_of_a_model(wrapper, tmp_path):
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


def test_adapters_of_another_kind_of_module():
    with pytest.raises(
        TypeError, match=r"^from_nnx takes an instance of flax.nnx.Module, not the class OfNNX$"
    ):
        adapters.from_nnx(OfNNX)
    with pytest.raises(TypeError, match=r"not an OfEquinox$"):
        adapters.from_nnx(OfEquinox())
    with pytest.raises(TypeError, match=r"^from_linen takes an instance of flax.linen.Module, not a dict$"):
        adapters.from_linen(variables(), OfLinen())
    with pytest.raises(TypeError, match=r"^from_equinox takes an instance of equinox.Module, not a tuple$"):
        adapters.from_equinox((OfEquinox(), None))
    with pytest.raises(TypeError, match=r"^from_equinox calls the module, but Dropless has no __call__$"):
        adapters.from_equinox(type("Dropless", (equinox.Module,), {})())


def test_modules_that_require_something_else():
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
    """A model with a state of one leaf, whose functions may be replaced."""
    parts = {
        "init_state": lambda params, rows: {"at": jnp.zeros((rows, 1))},
        "step": lambda params, state, tokens, *_: (state, params[tokens]),
    }
    return LanguageModel(TABLE, lambda params, tokens, *_: params[tokens], **parts | changes)


WRONG = {
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
def test_wrong_shapes_states_and_parameters_say_what_to_do(what):
    make, message = WRONG[what]
    with pytest.raises((TypeError, ValueError), match=message):
        scored(make(), sharding=Mesh(np.array(jax.devices()[:1]), ("data",)))


def test_an_error_of_init_state_names_it():
    def init_state(params, rows):
        raise LookupError("no such layer")

    with pytest.raises(LookupError) as raised:
        scored(stepping(init_state=init_state))
    assert "raised by init_state(params, rows), when windrow traced it" in raised.value.__notes__


def test_probabilities_in_place_of_logits():
    following = jnp.roll(8 * jnp.eye(256), 1, axis=1) + TABLE

    def score(of):
        model = LanguageModel(following, lambda table, tokens, *_: of(table[tokens]))
        tokenizer = load_tokenizer(ByteTokenizer(), prefix_token_id=0)
        windrow.score(model, tokenizer, ["abcdefghijklmnopqrstuvwxyz, a text"])

    with pytest.warns(UserWarning, match="the model seems to return probabilities: .* Return logits"):
        score(jax.nn.softmax)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="tokenizer .* encodes in Python")
        for of in (jnp.asarray, jax.nn.log_softmax, jnp.zeros_like, lambda logits: 1e-3 * logits):
            score(of)
