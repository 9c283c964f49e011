"""Automatic batch sizes: how they are chosen, and that they do not change results."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh
from lm_eval.api.instance import Instance

import windrow
from exhaustive import exhaustive
from host_worker import generated_pairs
from small_model import head, hidden, init_state, prefix_model, step
from small_tokenizer import write_tokenizer
from windrow import BatchPolicy, JaxLM
from windrow.admission import read_bytes, show_bytes
from windrow.harness.arguments import batch_sizes
from windrow.scoring.compiler import STORE
from windrow.sharding import RowSharding
from windrow.sizing.memory import CPU_SHARE, DeviceMemory, available_bytes
from windrow.sizing.search import largest_fitting

MESHES = {
    1: lambda: Mesh(np.array(jax.devices()[:1]), ("data",)),
    8: lambda: Mesh(np.array(jax.devices()), ("data",)),
}
MIB = 1 << 20


def wide_model(**parts):
    """A model wide enough for its batches to need megabytes."""
    every = {"hidden": hidden, "head": head, "init_state": init_state, "step": step}
    return prefix_model(258, width=512, max_length=64, **{**every, **parts})


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def instances(pairs):
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


def generation_requests(count=40):
    """Prompts of different lengths with different token limits."""
    prompts = [question for question, _ in generated_pairs()[::4]][:count]
    asked = [(prompt, {"max_gen_toks": 1 + len(prompt) % 9}) for prompt in prompts]
    return [Instance("generate_until", {}, args, index) for index, args in enumerate(asked)]


@pytest.mark.parametrize(
    ("given", "number"),
    [(5, 5), ("4096", 4096), ("2GiB", 2 << 30), ("1.5 kib", 1536), ("2GB", 2 * 10**9), ("3 M", 3 * 10**6),
     ("7 b", 7), ("1TiB", 1 << 40)],
)  # fmt: skip
def test_byte_sizes_are_parsed(given, number):
    assert read_bytes("memory_budget", given) == number


@pytest.mark.parametrize("given", [0, -1, "", "GiB", "2 GiBs", "two", True, 1.5, "1e9", "0.1", "I", "4iB"])
def test_bad_byte_sizes_are_refused(given):
    with pytest.raises(ValueError, match="memory_budget must be a number of bytes, or a string such as"):
        read_bytes("memory_budget", given)


def test_byte_sizes_are_formatted():
    assert [show_bytes(number) for number in (0, 1023, 1024, 5 * MIB, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip


@given(
    most=st.integers(1, 5000),
    base=st.integers(0, 1000),
    slope=st.integers(0, 1000),
    noise=st.lists(st.integers(0, 50), min_size=1, max_size=7),
    room=st.integers(0, 10**6),
)
def test_search_finds_a_fitting_size_in_few_steps(most, base, slope, noise, room):
    looked_at = {}

    def need(size):
        assert 1 <= size <= most
        assert size not in looked_at
        looked_at[size] = base + slope * size + noise[size % len(noise)] * slope // 100
        return looked_at[size]

    size = largest_fitting(most, need, room)
    best = max((n for n in range(1, most + 1) if base + slope * n + slope // 2 <= room), default=0)
    if size is None:
        assert looked_at[1] > room
    else:
        assert looked_at[size] <= room
        assert size >= best // 2
    assert len(looked_at) <= 6


@given(most=st.integers(1, 300), needs=st.lists(st.integers(0, 100), min_size=300, max_size=300))
def test_search_result_fits_whatever_the_need(most, needs):
    size = largest_fitting(most, lambda size: needs[size - 1], 50)
    assert needs[0] > 50 if size is None else needs[size - 1] <= 50


def test_auto_batch_size_and_auto_tokens_are_equivalent():
    for sizes in [("auto", None), ("auto:4", None), ("auto:2.5", "None"), (None, "auto"), ("auto", "auto")]:
        assert batch_sizes(*sizes) == (None, "auto")
    assert batch_sizes("auto", 512) == (None, 512)
    assert batch_sizes("16", None) == (16, None)
    assert batch_sizes(None, None) == (None, None)
    for bad in ("auto:", "auto:x", "automatic"):
        with pytest.raises(ValueError, match=f"batch_size must be a whole number of at least 1, not '{bad}'"):
            batch_sizes(bad, None)


def test_command_line_strings(evals):
    arguments = f"pretrained={evals / 'parity' / 'tiny-llama'},memory_budget=200MiB"
    by_size = JaxLM.create_from_arg_string(arguments, {"batch_size": "auto:4"})
    by_tokens = JaxLM.create_from_arg_string(f"{arguments},tokens_per_batch=auto", {"batch_size": 1})
    assert by_size.policy == by_tokens.policy == BatchPolicy(tokens_per_batch="auto", memory_budget=200 * MIB)
    assert by_size.batch_size == "auto"
    pairs = generated_pairs(40)
    by_size.loglikelihood(instances(pairs))
    choice = by_size.report()["auto"]["scoring"]
    assert choice["memory_budget"] == 200 * MIB
    assert 0 < choice["predicted_bytes"] <= choice["planned_bytes"] < choice["memory_budget"]


def test_contradictory_options_are_refused(tokenizer):
    with pytest.raises(ValueError, match="memory_budget needs tokens_per_batch='auto'"):
        BatchPolicy(memory_budget="2GiB")
    with pytest.raises(ValueError, match="give batch_size or tokens_per_batch, not both"):
        JaxLM(wide_model(), tokenizer, batch_size=8, tokens_per_batch="auto")
    with pytest.raises(ValueError, match="tokens_per_batch must be a whole number or 'auto', not 'car'"):
        BatchPolicy(tokens_per_batch="car")
    with pytest.raises(
        ValueError, match=r"batch_size must be a number, not 'auto'; .*tokens_per_batch='auto'"
    ):
        BatchPolicy(batch_size="auto")
    for name, value in [
        ("batch_size", "8"),
        ("tokens_per_batch", 0),
        ("max_shapes", True),
        ("padding_multiple", None),
    ]:
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, not {value!r}"):
            BatchPolicy(**{name: value})
    with pytest.raises(ValueError, match="memory_budget must be a number of bytes"):
        JaxLM(wide_model(), tokenizer, batch_size="auto", memory_budget="much")
    with pytest.raises(ValueError, match="tokens_per_batch='auto' needs a model on its devices"):
        BatchPolicy(tokens_per_batch="auto").plan(None, 1)


@pytest.mark.parametrize(("devices", "budget"), [(1, "55MiB"), (1, None), exhaustive(8, "70MiB")])
def test_results_match_a_fixed_batch_size(tokenizer, devices, budget):
    mesh, pairs, asked = MESHES[devices](), generated_pairs(), generation_requests()
    fixed = JaxLM(wide_model(), tokenizer, batch_size=16, mesh=mesh)
    sized = JaxLM(wide_model(), tokenizer, batch_size="auto", memory_budget=budget, mesh=mesh)
    scores, expected = (lm.loglikelihood(instances(pairs)) for lm in (sized, fixed))
    np.testing.assert_allclose([s for s, _ in scores], [s for s, _ in expected], atol=1e-4)
    assert [flag for _, flag in scores] == [flag for _, flag in expected]
    assert sized.generate_until(asked) == fixed.generate_until(asked)
    report = sized.report()
    assert "auto" not in fixed.report()
    for choice in report["auto"].values():
        assert choice["predicted_bytes"] <= choice["planned_bytes"] < choice["memory_budget"]
    tokens, slots = report["auto"]["scoring"]["tokens_per_batch"], report["auto"]["generation"]["slots"]
    assert max(rows * length for rows, length in report["shapes"]) <= tokens
    assert report["generation"]["slots"] == slots
    if budget is None:
        assert tokens == 8192
        assert slots == 32
    else:
        assert tokens < 8192
        assert slots % devices == 0


def test_sizing_compiles_nothing_extra(tokenizer, monkeypatch):
    """If the largest size fits, as it usually does, every program that is compiled also runs."""
    lowered = []
    compile_lowered = jax.stages.Lowered.compile

    def counted(*given, **options):
        lowered.append(1)
        return compile_lowered(*given, **options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    counts = []
    for size in (None, "auto"):
        lm = JaxLM(wide_model(), tokenizer, batch_size=size, mesh=MESHES[1]())
        lowered.clear()
        STORE.clear()  # forget programs compiled by other tests
        lm.loglikelihood(instances(generated_pairs()))
        counts.append(len(lowered))
        assert len(lowered) == len(lm.report()["shapes"])
    assert counts[0] == counts[1]


def test_too_small_budget_is_refused(tokenizer):
    lm = JaxLM(wide_model(), tokenizer, batch_size="auto", memory_budget="700KiB", mesh=MESHES[1]())
    message = (
        r"a batch of 1 x \d\d tokens, the smallest that holds the longest request, needs \S+ [KM]iB in "
        r"addition to the parameters, but only \S+ KiB of the 700.0 KiB allowed by memory_budget can be "
        "used; raise memory_budget"
    )
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(instances(generated_pairs()))
    with pytest.raises(
        ValueError, match=r"generating in 1 slots, .* from prompts of up to 64 tokens needs .* KiB"
    ):
        lm.generate_until(generation_requests())


def test_score_and_generate_with_automatic_sizes(tokenizer):
    policy = BatchPolicy(tokens_per_batch="auto", memory_budget="60MiB")
    model, pairs = wide_model(), generated_pairs(80)
    sized = windrow.score(model, tokenizer, pairs, policy=policy)
    fixed = windrow.score(model, tokenizer, pairs)
    np.testing.assert_allclose(sized.log_likelihoods, fixed.log_likelihoods, atol=1e-4)
    assert len(windrow.score(model, tokenizer, [], policy=policy).log_likelihoods) == 0
    prompts = [question for question, _ in pairs[::4]]
    sized = windrow.generate(model, tokenizer, prompts, max_new_tokens=5, policy=policy)
    fixed = windrow.generate(model, tokenizer, prompts, max_new_tokens=5)
    assert sized.texts == fixed.texts
    assert sized.report["slots"] <= fixed.report["slots"]


def test_available_memory_on_cpu():
    assert 64 * MIB < available_bytes() < 1 << 50
    memory = DeviceMemory(RowSharding.over(MESHES[8]()), 1 << 30)
    assert memory.budget == 1 << 30
    assert memory.room == int((1 << 30) * CPU_SHARE)


class Accelerator:
    """A stand-in for a device with its own memory, which reports these statistics."""

    platform, process_index = "gpu", 0

    def __init__(self, **stats):
        self.memory_stats = lambda: stats


def memory_of(devices, asked=None):
    sharding = SimpleNamespace(platform="gpu", mesh=SimpleNamespace(devices=np.array(devices)))
    return DeviceMemory(sharding, asked)


def test_free_memory_of_accelerators_bounds_the_budget():
    devices = [Accelerator(bytes_limit=limit << 30, bytes_in_use=2 << 30) for limit in (10, 7, 8)]
    assert memory_of(devices).budget == 5 << 30
    assert memory_of(devices).room == int(0.9 * (5 << 30))
    assert memory_of(devices, 1 << 30).budget == 1 << 30
    assert memory_of(devices, 9 << 30).budget == 5 << 30
    assert memory_of([Accelerator()], 3 << 30).budget == 3 << 30
    with pytest.raises(ValueError, match="these devices do not report how much memory they have"):
        memory_of([Accelerator()]).budget  # noqa: B018
