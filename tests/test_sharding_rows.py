"""Rows on all kinds of meshes, with parameters on the same devices or others."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from made_segments import as_segments
from small_model import head, hidden, naive_logprobs, prefix_model
from test_scoring import VOCAB, random_segments
from windrow import LanguageModel
from windrow.scoring import Clock, Scorer
from windrow.sharding import RowSharding, put_params
from windrow.sizing.policy import BatchPolicy

EXPLICIT = (AxisType.Explicit,) * 2


def explicit():
    return jax.make_mesh((4, 2), ("data", "tensor"), axis_types=EXPLICIT)


def shuffled():
    return Mesh(np.array(jax.devices())[[3, 0, 7, 1, 2, 6, 5, 4]].reshape(2, 4), ("tensor", "data"))


def on(mesh, *spec):
    return NamedSharding(mesh, PartitionSpec(*spec))


WHERE = {
    "explicit mesh": explicit,
    "explicit, sharded": lambda: on(explicit(), "data"),
    "shuffled mesh": shuffled,
    "shuffled, rows replicated": lambda: on(shuffled(), "data"),
    "length split too": lambda: on(shuffled(), "tensor", "data"),
    "fully replicated": lambda: on(shuffled()),
}


def assert_scores(where, params_on=None):
    sequences, starts = random_segments(30)
    segments, sharding = as_segments(sequences, starts), RowSharding.over(where)
    model = prefix_model(VOCAB, hidden=hidden, head=head)
    given = model
    if params_on is not None:
        spread = {name: jax.device_put(value, params_on[name]) for name, value in model.params.items()}
        given = LanguageModel(**{**vars(model), "params": spread})
    plan = BatchPolicy(batch_size=16, max_shapes=1, padding_multiple=8).plan(segments, sharding.groups)
    scores = Scorer(given, sharding, Clock()).run(plan, segments)
    for index, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        span = slice(*scores.offsets[index : index + 2])
        expected = naive_logprobs(model.params, sequence)[start - 1 :]
        np.testing.assert_allclose(scores.token_logprobs[span], [p for p, _ in expected], atol=2e-5)


@pytest.mark.parametrize("name", WHERE)
def test_rows_under_any_sharding(name):
    assert_scores(WHERE[name]())


@pytest.mark.parametrize("mesh", [explicit, shuffled])
def test_parameters_are_not_moved(mesh):
    mesh = mesh()
    params_on = {"embedding": on(mesh, None, "tensor"), "head": on(mesh, "tensor", None)}
    assert_scores(on(mesh, "data"), params_on)
    leaf = jax.device_put(np.zeros((4, 8), np.float32), params_on["embedding"])
    put = put_params({"embedding": leaf}, RowSharding.over(mesh))["embedding"]
    assert put.sharding.is_equivalent_to(leaf.sharding, 2)
    pointers = [
        [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards] for array in (put, leaf)
    ]
    assert pointers[0] == pointers[1]


def test_sharding_takes_precedence_over_the_mesh_in_the_context():
    with jax.set_mesh(explicit()):
        assert_scores(on(explicit(), "data"))


@pytest.mark.parametrize(
    ("devices", "shown"), [(slice(4, 8), r"\[4, 5, 6, 7\]"), (slice(3, None, -1), r"\[3, 2, 1, 0\]")]
)
def test_parameters_on_other_devices_are_refused(devices, shown):
    here = Mesh(np.array(jax.devices()[:4]), ("data",))
    there = Mesh(np.array(jax.devices())[devices], ("data",))
    leaf = jax.device_put(np.zeros(8, np.float32), on(there, "data"))
    message = rf"params\['layer'\] is on devices {shown}, but rows are on \[0, 1, 2, 3\]; pass a sharding"
    with pytest.raises(ValueError, match=message):
        put_params({"layer": leaf}, RowSharding.over(here))


def test_values_that_are_not_shardings_are_refused():
    with pytest.raises(TypeError, match=r"must be a jax.sharding.NamedSharding or Mesh, not str"):
        RowSharding.over("data")
    with pytest.raises(TypeError, match=r"must be a jax.sharding.Mesh of devices"):
        RowSharding.over(NamedSharding(explicit().abstract_mesh, PartitionSpec("data")))
    with pytest.raises(ValueError, match="has more axes"):
        RowSharding.over(NamedSharding(explicit(), PartitionSpec("data", None, "tensor")))
