"""Problems with a model, its parameters or memory are reported in one line, mostly before the run."""

import re
import sys
from dataclasses import replace

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import windrow
from byte_tokenizer import ByteTokenizer
from small_model import head, hidden, init_state, prefix_model, step
from windrow.tokens import load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")

ALL_PARTS = {"hidden": hidden, "head": head, "init_state": init_state, "step": step}
BATCH = "params, tokens, positions, segment_ids"


def scored(model, tokenizer=None):
    return windrow.score(model, tokenizer or ByteTokenizer(), [("a", "b")])


def returning(output):
    model = prefix_model(256)
    return replace(model, apply=lambda *given: output(model.apply(*given)))


WRONG_PARAMETERS = {
    "apply": (
        lambda: replace(prefix_model(9), apply=lambda params, tokens: tokens),
        BATCH,
        "(params, tokens)",
    ),
    "hidden": (lambda: prefix_model(9, hidden=lambda x: x, head=head), BATCH, "(x)"),
    "head": (
        lambda: prefix_model(9, hidden=hidden, head=lambda picked: picked),
        "params, picked",
        "(picked)",
    ),
    "init_state": (lambda: prefix_model(9, init_state=lambda: 0, step=step), "params, rows", "()"),
    "step": (
        lambda: prefix_model(9, init_state=init_state, step=hidden),
        "params, state, tokens, positions, segment_ids",
        f"({BATCH})",
    ),
}


@pytest.mark.parametrize("name", WRONG_PARAMETERS)
def test_functions_with_other_parameters(name):
    make, called, takes = WRONG_PARAMETERS[name]
    message = f"{name} is called as {name}({called}), but it takes {takes}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        make()


RETURNED = {
    "a tuple of 2": lambda logits: (logits, None),
    "a list of 1": lambda logits: [logits],
    "a dict with 'logits', 'cache'": lambda logits: {"logits": logits, "cache": logits},
    "None": lambda logits: None,
}


@pytest.mark.parametrize("shown", RETURNED)
def test_apply_that_returns_a_wrong_value(shown):
    message = f"apply returned {shown}; return the logits alone, [8, 8, size]"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        scored(returning(RETURNED[shown]))


class Output:
    """An output like that of the Flax models in transformers."""

    def __init__(self, logits):
        self.logits = logits


class NamedArray:
    """An output like that of Levanter's models."""

    def __init__(self, array):
        self.array, self.axes = array, ()


@pytest.mark.parametrize(
    ("made", "named", "where"), [(Output, "an Output", ".logits"), (NamedArray, "a NamedArray", ".array")]
)
def test_apply_that_returns_an_object(made, named, where):
    message = f"apply returned {named}; return the logits alone (its {where}), [8, 8, size]"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        scored(returning(made))


def test_module_that_takes_only_tokens():
    module = linen.Embed(256, 256)
    params = module.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    message = "apply is called as apply(params, tokens, positions, segment_ids), which failed: "
    with pytest.raises(TypeError, match=f"^{re.escape(message)}.*takes 2 positional arguments but 4"):
        scored(windrow.LanguageModel(params, module.apply))


def test_state_that_changes_shape_or_structure():
    def narrower(params, state, *batch):
        state, made = step(params, state, *batch)
        return state.astype(jnp.bfloat16), made

    def deeper(*given):
        state, made = step(*given)
        return [state], made

    shown = re.escape("step returned state as bfloat16[8, 8], but init_state returned float32[8, 8];")
    with pytest.raises(TypeError, match=f"^{shown} a state must keep its shapes and dtypes$"):
        scored(prefix_model(256, **{**ALL_PARTS, "step": narrower}))
    with pytest.raises(TypeError, match=r"^step returned a state with a different structure than"):
        scored(prefix_model(256, **{**ALL_PARTS, "step": deeper}))
    with pytest.raises(ValueError, match="the leading axis of each leaf must have a length of 8"):
        scored(prefix_model(256, **{**ALL_PARTS, "init_state": lambda params, rows: jnp.zeros((1, rows))}))


def test_parts_that_return_a_wrong_value():
    message = "hidden returned a tuple of 2; return one array, [8, 8, size]"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        scored(prefix_model(256, hidden=lambda *given: (hidden(*given), 0), head=head))
    message = "head returned None; return the logits alone, [8, size]"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        scored(prefix_model(256, hidden=hidden, head=lambda params, picked: None))
    message = "step returned an array [8, 8, 8]; return (state, what head takes)"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        scored(prefix_model(256, **{**ALL_PARTS, "step": lambda *given: step(*given)[1]}))


def with_leaf(leaf):
    model = prefix_model(256)
    return replace(model, params={**model.params, "extra": [leaf]})


LEAVES = {
    "a str": "tiny",
    "the function relu": jax.nn.relu,
    "an object": object(),
    "a NumPy array of <U4": np.array(["tiny"]),
}


@pytest.mark.parametrize("shown", LEAVES)
def test_parameters_that_are_not_arrays(shown):
    with pytest.raises(TypeError, match=rf"^params\['extra'\]\[0\] is {shown}[,;] "):
        scored(with_leaf(LEAVES[shown]))


def test_whole_modules_as_parameters():
    """Equinox modules contain functions as well as arrays; Flax states contain only arrays."""
    whole = equinox.nn.MLP(4, 256, 8, 1, key=jax.random.key(0))
    with pytest.raises(
        TypeError, match=r"params\.(final_)?activation is the function .*params must contain only arrays"
    ):
        scored(windrow.LanguageModel(whole, lambda params, tokens, *_: jax.vmap(jax.vmap(params))(tokens)))
    arrays, others = equinox.partition(whole, equinox.is_array)

    def apply(params, tokens, *_):
        module = equinox.combine(params, others)
        return jax.vmap(jax.vmap(module))(jax.nn.one_hot(tokens % 4, 4))

    assert np.isfinite(scored(windrow.LanguageModel(arrays, apply)).log_likelihoods).all()
    definition, state = nnx.split(nnx.Linear(4, 256, rngs=nnx.Rngs(0)))

    def merged(params, tokens, *_):
        return nnx.merge(definition, params)(jax.nn.one_hot(tokens % 4, 4))

    assert np.isfinite(scored(windrow.LanguageModel(state, merged)).log_likelihoods).all()


def test_deleted_parameters():
    model = prefix_model(256)
    jax.tree.leaves(model.params)[0].delete()
    with pytest.raises(ValueError, match=r"params\['embedding'\] has been deleted: it was donated"):
        scored(model)


def test_encode_that_returns_words():
    class Words(ByteTokenizer):
        def encode(self, text):
            return text.split()

    with pytest.raises(TypeError, match=r"tokenizer.encode returned \['.*'\.*.*\]; expected token ids"):
        load_tokenizer(Words()).encode(["a b"])


def exhausts_memory(params, tokens, *_):
    """Sorts 16 TiB per batch of more than 8 tokens: this compiles, but cannot run."""
    size = 1 << 44 if tokens.shape[1] > 8 else 1 << 4
    wide = jax.lax.sort(jax.lax.iota(jnp.int8, size) + tokens[0, 0].astype(jnp.int8), is_stable=False)
    return params[tokens] + wide[-1].astype(jnp.float32)


def test_out_of_memory_names_the_batch():
    table = jax.random.normal(jax.random.key(0), (256, 256))
    model = windrow.LanguageModel(table, exhausts_memory)
    settings = "lower batch_size or tokens_per_batch, use tokens_per_batch='auto' .* or lower max_length"
    with pytest.raises(MemoryError, match=rf"^out of memory in a batch of 64 x 12 tokens, .*; {settings}"):
        windrow.score(model, ByteTokenizer(), [("abc" * 4, "d")], policy=windrow.BatchPolicy(batch_size=64))
    with pytest.raises(
        MemoryError, match=rf"^out of memory in generating 4 tokens in each of 8 slots; {settings}"
    ):
        windrow.generate(model, ByteTokenizer(), ["abcd" * 3], max_new_tokens=4, end_tokens=[])


def test_errors_show_the_budget_as_given():
    policy = windrow.BatchPolicy(tokens_per_batch="auto", memory_budget="1KB")
    with pytest.raises(ValueError, match="0 bytes of the 1000 bytes allowed by memory_budget can be used"):
        windrow.score(prefix_model(256), ByteTokenizer(), [("a", "b")], policy=policy)


FACTORIES = {
    "swapped": (TypeError, "must return (LanguageModel, tokenizer), not (Bytes, LanguageModel)"),
    "model_alone": (TypeError, "must return (LanguageModel, tokenizer), not LanguageModel"),
    "failing": (RuntimeError, "raised KeyError: 'params' ({file}, line 14)"),
    "needs_argument": (TypeError, "takes (folder); it must take no required arguments"),
    "NUMBER": (TypeError, "must be a function, not int"),
    "swaped": (ValueError, "not found: {module} has no 'swaped'; it has swapped, Bytes, model_alone, "),
}

FACTORY_MODULE = """
from small_model import prefix_model

class Bytes:
    def encode(self, text): return list(text.encode())

def swapped():
    return Bytes(), prefix_model(256)

def model_alone():
    return prefix_model(256)

def failing():
    return {}["params"]

def needs_argument(folder):
    return prefix_model(256), Bytes()

NUMBER = 3
"""


@pytest.mark.parametrize("name", FACTORIES)
def test_factories(name, tmp_path, monkeypatch):
    module = "factories_of_a_newcomer"
    file = tmp_path / f"{module}.py"
    file.write_text(FACTORY_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    error, message = FACTORIES[name]
    whole = f"factory {module}:{name} {message.format(file=file, module=module)}"
    with pytest.raises(error, match=f"^{re.escape(whole)}"):
        windrow.JaxLM(factory=f"{module}:{name}")


def test_factory_module_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "needs_another.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = (
        "importing needs_another for factory needs_another:make raised ModuleNotFoundError: No module named "
        f"'no_such_module_anywhere' ({tmp_path / 'needs_another.py'}, line 1)"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        windrow.JaxLM(factory="needs_another:make")
