"""lm_eval's result cache: only runs with the model and settings that wrote it may reuse it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.tasks import TaskManager

from byte_tokenizer import ByteTokenizer
from small_model import prefix_model
from task_files import write_tasks
from windrow.harness import JaxLM
from windrow.scoring.identity import params_checksum
from windrow.sharding import RowSharding

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")

REQUESTS = [Instance("loglikelihood", {}, ("The sky is", " blue"), 0)]


def byte_lm(model=None, **arguments):
    model = model or prefix_model(256, max_length=64)
    return JaxLM(model, ByteTokenizer(), **{"prefix_token_id": 0, **arguments})


def cached(folder, lm):
    return CachingLM(lm, str(folder / "kept_rank0.db"))


def sharper(params, tokens, positions, segment_ids):
    """Returns different logits from the same parameters."""
    return MODEL.apply(params, tokens, positions, segment_ids) * 1.5


def one_bit_more(model):
    return replace(model, params={**model.params, "head": model.params["head"].at[3, 5].add(1e-6)})


MODEL = prefix_model(256, max_length=64)
OTHERS = {
    "parameters": lambda: byte_lm(one_bit_more(MODEL)),
    "model function": lambda: byte_lm(replace(MODEL, apply=sharper)),
    "tokenizer": lambda: byte_lm(prefix_token_id=1),
    "max_length": lambda: byte_lm(max_length=63),
}


@pytest.mark.parametrize("what", OTHERS)
def test_cache_of_a_different_run_is_refused(tmp_path, what):
    first = cached(tmp_path, byte_lm()).loglikelihood(REQUESTS)
    other = OTHERS[what]()
    with pytest.raises(
        ValueError, match=rf"kept_rank0.db does not match this run \(different {what}\); choose another"
    ) as error:
        cached(tmp_path, other)
    assert "\n" not in str(error.value)
    assert other.cache_hook.dbdict is None
    again = byte_lm()
    assert cached(tmp_path, again).loglikelihood(REQUESTS) == first
    assert again.report()["requests"] == 0


def test_placement_and_batching_may_differ(tmp_path):
    first = cached(tmp_path, byte_lm()).loglikelihood(REQUESTS)
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    assert cached(tmp_path, byte_lm(mesh=mesh, batch_size=4, share=False)).loglikelihood(REQUESTS) == first


def test_cache_of_unknown_origin_is_refused(tmp_path):
    class Silent(JaxLM):
        def set_cache_hook(self, cache_hook):
            self.cache_hook = cache_hook

    silent = Silent(MODEL, ByteTokenizer(), prefix_token_id=0)
    cached(tmp_path, silent).loglikelihood(REQUESTS)
    with pytest.raises(
        ValueError, match=r"kept_rank0.db does not record which model made it; choose another"
    ):
        cached(tmp_path, byte_lm())


def test_cached_failures_are_not_reused_by_runs_that_raise(tmp_path):
    cached(tmp_path, byte_lm()).loglikelihood(REQUESTS)
    skipping = cached(tmp_path, byte_lm(on_bad_request="skip"))
    bad = [Instance("loglikelihood", {}, ("a", ""), 0)]
    assert skipping.loglikelihood(bad) == [(-np.inf, False)]
    with pytest.raises(ValueError, match=r"does not match this run \(different on_bad_request\)"):
        cached(tmp_path, byte_lm())
    assert cached(tmp_path, byte_lm(on_bad_request="skip")).loglikelihood(bad) == [(-np.inf, False)]


def test_simple_evaluate_refuses_a_different_cache(tmp_path):
    folder = write_tasks(tmp_path, 6)
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    options = {"tasks": ["choices"], "task_manager": tasks, "use_cache": str(tmp_path / "kept")}
    first = simple_evaluate(byte_lm(), bootstrap_iters=0, **options)
    again = byte_lm()
    assert simple_evaluate(again, bootstrap_iters=0, **options)["results"] == first["results"]
    assert again.report()["requests"] == 0
    with pytest.raises(ValueError, match=r"does not match this run \(different parameters, model function\)"):
        simple_evaluate(byte_lm(prefix_model(256, seed=1, max_length=64)), bootstrap_iters=0, **options)


LEAVES = {
    "float32": jnp.arange(24, dtype=jnp.float32).reshape(8, 3),
    "bfloat16": jnp.arange(24, dtype=jnp.bfloat16).reshape(8, 3),
    "float8_e4m3fn": jnp.arange(24, dtype=jnp.float32).reshape(8, 3).astype(jnp.float8_e4m3fn),
    "int8": jnp.arange(24, dtype=jnp.int8).reshape(8, 3),
    "bool": (jnp.arange(24) % 5 == 0).reshape(8, 3),
    "complex64": jnp.arange(24, dtype=jnp.complex64).reshape(8, 3) * 1j,
    "key": jax.random.split(jax.random.key(0), (8, 3)),
}


@pytest.mark.parametrize("kind", LEAVES)
def test_checksum_depends_only_on_values_order_shapes_and_names(kind):
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    sharding, leaf = RowSharding.over(mesh), LEAVES[kind]

    def checksum(leaf, name="a", axes=None):
        placed = jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(axes)))
        return params_checksum({name: placed}, sharding)

    expected = checksum(leaf)
    assert checksum(leaf, axes="x") == expected
    assert checksum(leaf, axes=("x", "y")) == expected
    others = [
        checksum(leaf, name="b"),
        checksum(leaf.reshape(4, 6)),
        checksum(leaf[::-1]),
        checksum(leaf.at[5, 1].set(leaf[0, 0])),
    ]
    assert len({expected, *others}) == 5
