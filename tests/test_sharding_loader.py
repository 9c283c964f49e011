"""From hosts' rows to global arrays: which rows, in which order, and how loaders resume."""

import json

import jax
import numpy as np
import pytest
from grain.experimental import assert_equal_output_after_checkpoint
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from processes import TESTS, Hosts, finish, free_port
from two_processes import ORDERS
from windrow.batch import LLMIndexedBatch
from windrow.sharding import HostShare, MultiHostDataLoadIterator

MESHES = {
    "one device": lambda: jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]),
    "eight devices": lambda: jax.make_mesh((8,), ("data",)),
    "explicit axes": lambda: jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Explicit,) * 2),
    "automatic axes": lambda: jax.make_mesh((2, 2, 2), ("a", "b", "c"), axis_types=(AxisType.Auto,) * 3),
    "devices in any order": lambda: Mesh(np.array(jax.devices())[[3, 0, 7, 1, 2, 6, 5, 4]], ("data",)),
}


def batches(count=4, rows=8, length=3):
    first = np.arange(rows * length, dtype=np.int32).reshape(rows, length)
    return [
        LLMIndexedBatch(*[first + 100 * part + number for part in range(8)], first % 2 == 0)
        for number in range(count)
    ]


@pytest.mark.parametrize("kind", MESHES)
def test_rows_are_split_over_all_axes(kind):
    mesh = MESHES[kind]()
    loader = MultiHostDataLoadIterator(batches(), mesh)
    assert len(loader) == 4
    expected = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    for made, given in zip(loader, batches(), strict=True):
        assert isinstance(made, LLMIndexedBatch)
        for array, part in zip(vars(made).values(), vars(given).values(), strict=True):
            assert isinstance(array, jax.Array)
            assert array.sharding.is_equivalent_to(expected, 2)
            assert (array.dtype, array.shape) == (part.dtype, part.shape)
            assert np.array_equal(array, part)
            for at, device in enumerate(mesh.devices.flat):
                (shard,) = [shard for shard in array.addressable_shards if shard.device == device]
                rows = len(part) // mesh.size
                assert np.array_equal(shard.data, part[at * rows : (at + 1) * rows])


@pytest.fixture
def loader():
    return MultiHostDataLoadIterator(batches(), MESHES["eight devices"]())


def first(batch):
    return int(np.asarray(batch.inputs)[0, 0])


def firsts(loader):
    return [first(batch) for batch in loader]


def test_loader_can_be_iterated_repeatedly(loader):
    assert firsts(loader) == firsts(loader) == [0, 1, 2, 3]
    for batch in loader:
        assert first(batch) == 0
        break
    assert firsts(loader) == [0, 1, 2, 3]
    one, other = iter(loader), iter(loader)
    next(one)
    assert (firsts(one), firsts(other)) == ([1, 2, 3], [0, 1, 2, 3])


def test_next_continues_the_latest_iteration(loader):
    assert first(next(loader)) == 0
    assert first(next(loader)) == 1
    assert loader.get_state() == {"step": 2, "iterator_length": 4}
    assert firsts(loader) == [0, 1, 2, 3]
    with pytest.raises(StopIteration):
        next(loader)


def test_states_resume(loader):
    states = [loader.get_state()] + [json.loads(json.dumps(loader.get_state())) for _ in loader]
    assert states == [{"step": number, "iterator_length": 4} for number in range(5)]
    for number, state in enumerate(states):
        loader.set_state(state)
        assert loader.get_state() == state
        assert firsts(loader) == [0, 1, 2, 3][number:]
        assert firsts(loader) == [0, 1, 2, 3]
    loader.set_state(states[3])
    assert first(next(loader)) == 3
    iterator = iter(loader)
    iterator.set_state(states[2])
    assert firsts(iterator) == [2, 3]


def test_grains_checkpoint_helper(loader):
    assert_equal_output_after_checkpoint(loader)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"step": 5, "iterator_length": 4}, IndexError, "step is 5, out of range for 4 steps"),
        ({"step": -1, "iterator_length": 4}, IndexError, "step is -1"),
        ({"iterator_length": 4}, KeyError, r"state has no 'step', only \['iterator_length'\]"),
        ({"step": 1}, KeyError, r"state has no 'iterator_length', only \['step'\]"),
        ({"step": 1.5, "iterator_length": 4}, TypeError, "float"),
        ({"step": 1, "iterator_length": 5}, ValueError, "iterator_length is 5, but this iterator's is 4"),
        (
            {"step": 1, "iterator_length": None},
            ValueError,
            "iterator_length is None, but this iterator's is 4",
        ),
    ],
)
def test_bad_states(loader, state, error, message):
    with pytest.raises(error, match=message):
        loader.set_state(state)
    assert firsts(loader) == [0, 1, 2, 3]


def test_bad_batches_and_meshes():
    mesh = MESHES["eight devices"]()
    with pytest.raises(ValueError, match=r"shape \(6, 3\); its first axis is split over the 8 devices"):
        next(MultiHostDataLoadIterator(batches(rows=6), mesh))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        next(MultiHostDataLoadIterator([np.int32(3)], mesh))
    with pytest.raises(TypeError, match=r"global_mesh must be a jax.sharding.Mesh, not list"):
        MultiHostDataLoadIterator(batches(), jax.devices())


def test_batches_without_rows_or_columns():
    mesh = MESHES["eight devices"]()
    (made,) = MultiHostDataLoadIterator([(np.zeros((0, 4)), np.zeros((8, 0)))], mesh)
    assert [part.shape for part in made] == [(0, 4), (8, 0)]


class TestHostShare:
    def test_contiguous_rows(self):
        assert HostShare.contiguous(1, 3).row_ranges(12) == [(4, 8)]
        assert HostShare((0, 1, 3), 4).row_ranges(8) == [(0, 4), (6, 8)]
        assert HostShare((0,), 1).row_ranges(5) == [(0, 5)]

    def test_one_process_holds_all_rows(self):
        for kind in MESHES:
            mesh = MESHES[kind]()
            share = HostShare.of_sharding(NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
            assert share == HostShare(tuple(range(mesh.size)), mesh.size)

    def test_replicated_rows_are_one_block(self):
        mesh = MESHES["explicit axes"]()
        assert HostShare.of_sharding(NamedSharding(mesh, PartitionSpec())) == HostShare((0,), 1)
        assert HostShare.of_sharding(NamedSharding(mesh, PartitionSpec("data"))) == HostShare((0, 1, 2, 3), 4)

    def test_hosts_hold_contiguous_rows_on_a_mesh_of_one_process(self):
        assert HostShare.on_mesh(MESHES["eight devices"](), 1, 4) == HostShare((1,), 4)

    @pytest.mark.parametrize(
        ("index", "count", "error", "message"),
        [
            (2, 2, IndexError, "host index is 2; with 2 hosts it must be from 0 to 1"),
            (-1, 2, IndexError, "host index is -1"),
            (0, 0, ValueError, "host count is 0; it must be at least 1"),
        ],
    )
    def test_bad_host_index(self, index, count, error, message):
        with pytest.raises(error, match=message):
            HostShare.contiguous(index, count)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The output of two processes that share a mesh."""
    folder = tmp_path_factory.mktemp("pair")
    port = free_port()
    commands = [[TESTS / "two_processes.py", process, port, folder] for process in range(2)]
    with Hosts(folder, commands) as hosts:
        finish(hosts, 120)
        assert [host.status for host in hosts] == [0, 0], hosts[0].output + hosts[1].output
        return [host.output for host in hosts]


@pytest.mark.parametrize("order", ORDERS)
def test_two_processes(order, pair):
    """Each process supplies the rows of its own devices, wherever in the mesh they are."""
    for output in pair:
        assert f"{order}, all rows are where they belong\n" in output
