"""Errors of lm_eval's model class for wrong arguments, models, tokenizers and parameters."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from byte_lm import byte_lm, named_requests, requests_of
from byte_tokenizer import ByteTokenizer
from small_model import head, hidden, init_state, naive_logprobs, prefix_model, step
from windrow.harness import JaxLM

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")


def test_parameters_can_be_overwritten_after_the_model_is_created():
    model = prefix_model(256, max_length=64)
    arrays = {name: np.array(value) for name, value in model.params.items()}
    first = requests_of("loglikelihood", ("ab", "cd"))
    expected = JaxLM(model, ByteTokenizer(), prefix_token_id=0).loglikelihood(first)
    lm = JaxLM(replace(model, params=arrays), ByteTokenizer(), prefix_token_id=0)
    for array in arrays.values():
        array[:] = 0
    assert lm.loglikelihood(first) == expected
    # On one device, JAX may use NumPy's memory without a copy.
    one = Mesh(np.array(jax.devices()[:1]), ("data",))
    arrays = {name: aligned(value) for name, value in model.params.items()}
    lm = JaxLM(replace(model, params=arrays), ByteTokenizer(), prefix_token_id=0, mesh=one)
    for array in arrays.values():
        array[:] = 0
    assert lm.loglikelihood(first)[0][0] == pytest.approx(expected[0][0], abs=1e-5)


def aligned(value):
    """A copy whose memory is aligned to 64 bytes."""
    memory = np.empty(value.nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    array = memory[begin : begin + value.nbytes].view(np.float32).reshape(value.shape)
    array[:] = value
    return array


@pytest.mark.parametrize("devices", [1, 8])
def test_donated_parameters_are_named(devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    model = prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step, max_length=64)
    params = jax.device_put(model.params, NamedSharding(mesh, PartitionSpec()))
    lm = JaxLM(replace(model, params=params), ByteTokenizer(), prefix_token_id=0, mesh=mesh)
    trained = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf * 2, params), donate_argnums=0)(params)
    message = r"params\['embedding'\] has been deleted: it was donated to a compiled function"
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(requests_of("loglikelihood", ("ab", "c")))
    with pytest.raises(ValueError, match=message):
        lm.generate_until(requests_of("generate_until", ("ab", {"max_gen_toks": 2})))
    with pytest.raises(ValueError, match=message):
        JaxLM(replace(model, params=params), ByteTokenizer(), prefix_token_id=0, mesh=mesh)
    lm = JaxLM(replace(model, params=trained), ByteTokenizer(), prefix_token_id=0, mesh=mesh)
    assert np.isfinite(lm.loglikelihood(requests_of("loglikelihood", ("ab", "c")))[0][0])


def test_errors_of_every_request_type_name_task_and_document():
    lm = byte_lm(
        model=prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step, max_length=64)
    )
    where = r"request 1 \(task animals, document 11\): "
    with pytest.raises(ValueError, match=where + "its continuation encodes to no tokens"):
        lm.loglikelihood(named_requests("loglikelihood", ("a", "b"), ("a", "")))
    with pytest.raises(ValueError, match=where):
        lm.loglikelihood_rolling(named_requests("loglikelihood_rolling", ("a",), (3,)))
    for keywords in ({"max_gen_toks": 100}, {"max_gen_toks": -1}):
        asked = [("a", {"max_gen_toks": 2}), ("a", keywords)]
        with pytest.raises(ValueError, match=where):
            lm.generate_until(named_requests("generate_until", *asked))


def wrong_model(**parts):
    return JaxLM(
        replace(prefix_model(256, hidden=hidden, head=head), **parts), ByteTokenizer(), prefix_token_id=0
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"apply": lambda p, tokens, *_: tokens}, r"apply returned shape \(8, 8\); expected \[8, 8, size\]"),
        (
            {"apply": lambda p, tokens, *_: jnp.zeros((8, 8, 256), jnp.int32)},
            "apply returned int32; expected a floating-point dtype",
        ),
        ({"hidden": lambda p, tokens, *_: jnp.zeros((8, 4))}, "hidden returned shape"),
        (
            {"head": lambda p, picked: jnp.zeros((len(picked), 9))},
            "vocabulary sizes: apply 256, head 9",
        ),
    ],
)
def test_models_that_break_the_contract_are_rejected_before_the_run(parts, message):
    with pytest.raises(ValueError, match=message):
        wrong_model(**parts)


def test_scoring_does_not_need_decode():
    class Encoder:
        encode = staticmethod(lambda text: list(text.encode()))
        eot_token = 0

    lm = JaxLM(prefix_model(256), Encoder())
    assert np.isfinite(lm.loglikelihood(requests_of("loglikelihood", ("", "a")))[0][0])
    with pytest.raises(TypeError, match=r"has no decode\(tokens\), which is needed here"):
        lm.generate_until(requests_of("generate_until", ("a", {"max_gen_toks": 2})))


@pytest.mark.parametrize("max_length", [65, "65", "unbounded"])
def test_max_length_above_the_models_limit_is_refused(max_length):
    model = prefix_model(256, max_length=64)
    with pytest.raises(ValueError, match=r"max_length=.* exceeds the model's limit of 64 tokens"):
        JaxLM(model, ByteTokenizer(), prefix_token_id=0, max_length=max_length)
    assert JaxLM(model, ByteTokenizer(), prefix_token_id=0, max_length="64").max_length == 64


def test_tokens_outside_the_models_vocabulary():
    """Only tokens that occur need logits; without them, the reference fails too (with an index error)."""

    class Sized(ByteTokenizer):
        vocab_size = 257

    lm = JaxLM(prefix_model(200, max_length=64), Sized(), prefix_token_id=0)
    pairs = [("ab", "c"), ("ab", "\u00ff"), ("ab", "d")]
    smaller = naive_logprobs(lm.model.params, list(b"abc"))[-1][0]
    assert lm.loglikelihood(requests_of("loglikelihood", pairs[0]))[0][0] == pytest.approx(smaller, abs=1e-4)
    message = r"^request 1 \(task animals, document 11\): token 255 is outside the model's vocabulary of 200"
    wide = [("ab", "c"), ("ab", "\u00ff"), ("ab", "d")]
    Sized.encode = lambda self, text: [min(ord(letter), 255) for letter in text]
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(named_requests("loglikelihood", *wide))
    lm = JaxLM(prefix_model(200, max_length=64), Sized(), prefix_token_id=0, on_bad_request="skip")
    results = lm.loglikelihood(named_requests("loglikelihood", *wide))
    assert results[1] == (-np.inf, False)
    assert results[0][0] == pytest.approx(smaller, abs=1e-4)
    assert np.isfinite(results[2][0])
    assert lm.report()["skipped"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 3}, "batch_size is 3; it must be a multiple of 8"),
        ({"batch_size": "many"}, "batch_size must be a whole number of at least 1, not 'many'"),
        ({"batch_size": 8, "tokens_per_batch": 100}, "batch_size or tokens_per_batch, not both"),
        ({"share": "perhaps"}, "share must be 'auto', 'trees', 'forks', 'equal' or False, not 'perhaps'"),
        ({"on_bad_request": "ignore"}, "on_bad_request"),
        ({"pretrained": "nowhere"}, "give one of model"),
        ({"model": None, "factory": "no_such_module:make"}, "factory no_such_module:make not found"),
        (
            {"model": None, "factory": "json:no_such_function"},
            "factory json:no_such_function not found",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        byte_lm(**arguments)


def test_unknown_arguments_are_named_with_a_suggestion():
    with pytest.raises(ValueError, match=r"unknown model argument 'pretrain'; did you mean 'pretrained'\?"):
        JaxLM.create_from_arg_string("pretrain=somewhere")


def test_arguments_may_be_strings(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text(
        "from byte_tokenizer import ByteTokenizer\nfrom small_model import prefix_model\n"
        "make = lambda: (prefix_model(256), ByteTokenizer())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    lm = JaxLM.create_from_arg_string(
        "factory=made:make,prefix_token_id=0,tokens_per_batch=512,share=false,max_length=32,add_bos_token=None",
        {"batch_size": 1, "device": "cuda:0", "max_batch_size": None},
    )
    assert (lm.policy.tokens_per_batch, lm.policy.share) == (512, False)
    assert (lm.max_length, lm.batch_size) == (32, "auto")
