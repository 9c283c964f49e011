"""Scores, compared with a float64 recomputation of one segment at a time."""

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import windrow
from made_segments import as_segments
from small_model import head, hidden, init_state, naive_logprobs, prefix_model, step
from windrow.scoring import Clock, Compiler, Scorer, compiler
from windrow.scoring.feed import Feed
from windrow.sharding import RowSharding
from windrow.sizing.policy import BatchPolicy

VOCAB = 30


def random_segments(count, seed=0, longest=20):
    """Segments with many equal inputs, scored from a random token on."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(count):
        if sequences and rng.random() < 0.5:
            sequences.append([*sequences[rng.integers(len(sequences))][:-1], int(rng.integers(VOCAB))])
        else:
            sequences.append(rng.integers(0, VOCAB, rng.integers(2, longest)).tolist())
    starts = [int(rng.integers(1, len(sequence))) for sequence in sequences]
    return sequences, starts


def make_plan(segments, groups, share, **policy):
    return BatchPolicy(share=share, **policy).plan(segments, groups)


MESHES = {
    "one device": lambda: Mesh(np.array(jax.devices()[:1]), ("data",)),
    "eight devices": lambda: Mesh(np.array(jax.devices()), ("data",)),
    "data x tensor": lambda: NamedSharding(
        Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor")), PartitionSpec("data")
    ),
}


POLICIES = {
    "rows": {"batch_size": 16},
    "budget": {"tokens_per_batch": 256},
    "packed": {"batch_size": 8, "pack": True},
}
PARTS = {"apply": {}, "hidden+head": {"hidden": hidden, "head": head}}


@pytest.mark.parametrize(
    ("mesh", "share", "parts", "policy"),
    [
        ("one device", False, "apply", "rows"),
        ("one device", True, "hidden+head", "packed"),
        ("eight devices", True, "apply", "budget"),
        ("eight devices", True, "apply", "packed"),
        ("eight devices", False, "hidden+head", "rows"),
        ("data x tensor", True, "hidden+head", "rows"),
        ("data x tensor", False, "apply", "budget"),
    ],
)
def test_scores_match_recomputation(mesh, share, parts, policy):
    sequences, starts = random_segments(60)
    segments = as_segments(sequences, starts)
    sharding = RowSharding.over(MESHES[mesh]())
    model = prefix_model(VOCAB, **PARTS[parts])
    plan = make_plan(segments, sharding.groups, share, max_shapes=3, **POLICIES[policy])
    scores = Scorer(model, sharding, Clock()).run(plan, segments)
    for index, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        expected = naive_logprobs(model.params, sequence)[start - 1 :]
        span = slice(*scores.offsets[index : index + 2])
        np.testing.assert_allclose(scores.token_logprobs[span], [p for p, _ in expected], atol=2e-5)
        assert scores.token_greedy[span].tolist() == [greedy for _, greedy in expected]
        assert scores.sums()[index] == pytest.approx(sum(p for p, _ in expected), abs=1e-4)
        assert scores.greedy()[index] == all(greedy for _, greedy in expected)


def test_chunks_of_logits_do_not_change_scores(monkeypatch):
    sequences, starts = random_segments(40, seed=1)
    segments = as_segments(sequences, starts)
    sharding = RowSharding.over(MESHES["eight devices"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=16, max_shapes=2)
    model = prefix_model(VOCAB, hidden=hidden, head=head)
    whole = Scorer(model, sharding, Clock()).run(plan, segments)
    monkeypatch.setattr("windrow.scoring.program.CHUNK_BYTES", 4 * VOCAB * 3)
    chunked = Scorer(model, sharding, Clock()).run(plan, segments)
    np.testing.assert_allclose(whole.token_logprobs, chunked.token_logprobs, atol=1e-5)
    np.testing.assert_array_equal(whole.token_greedy, chunked.token_greedy)


def test_rows_per_call_do_not_change_scores(monkeypatch):
    segments = as_segments(*random_segments(40, seed=3))
    sharding = RowSharding.over(MESHES["one device"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=16, max_shapes=2)
    seen = []

    def counting(params, tokens, *others):
        seen.append(tokens.shape[0])
        return hidden(params, tokens, *others)

    def scores(cached_tokens):
        monkeypatch.setattr("windrow.scoring.program.CACHED_TOKENS", cached_tokens)
        seen.clear()
        model = prefix_model(VOCAB, hidden=counting, head=head)
        return Scorer(model, sharding, Clock()).run(plan, segments), set(seen)

    whole, rows = scores(10**6)
    few, fewer = scores(4 * int(plan.shapes[:, 1].max()))
    assert 4 in fewer - rows
    np.testing.assert_allclose(whole.token_logprobs, few.token_logprobs, atol=1e-5)
    np.testing.assert_array_equal(whole.token_greedy, few.token_greedy)


def test_filler_rows_are_not_computed(monkeypatch):
    segments = as_segments([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [1, 1, 1])
    plan = make_plan(segments, 1, True, batch_size=8)
    computed = []

    def watched(params, tokens, *others):
        jax.debug.callback(lambda: computed.append(len(tokens)))
        return hidden(params, tokens, *others)

    monkeypatch.setattr("windrow.scoring.program.CACHED_TOKENS", 2 * int(plan.shapes[0, 1]))
    model = prefix_model(VOCAB, hidden=watched, head=head)
    scorer = Scorer(model, RowSharding.over(MESHES["one device"]()), Clock())
    computed.clear()
    scorer.run(plan, segments)
    jax.effects_barrier()
    assert computed == [2, 2]


def test_concurrent_batches_do_not_change_scores(monkeypatch):
    segments = as_segments(*random_segments(60, seed=4))
    sharding = RowSharding.over(MESHES["one device"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=4, max_shapes=2)
    scorer = Scorer(prefix_model(VOCAB, hidden=hidden, head=head), sharding, Clock())
    dispatching = set()

    def scores(lanes):
        monkeypatch.setattr("windrow.scoring.lanes._LANES", lanes)
        assert Feed(plan, segments, sharding).at_once == len(lanes)
        return scorer.run(plan, segments)

    def lane():
        return ThreadPoolExecutor(1, initializer=lambda: dispatching.add(threading.get_ident()))

    one, two = scores([lane()]), scores([lane(), lane()])
    assert len(dispatching) == 2  # the caller's thread and one more
    np.testing.assert_array_equal(one.token_logprobs, two.token_logprobs)
    np.testing.assert_array_equal(one.token_greedy, two.token_greedy)


def test_programs_with_eigen_products_run_one_at_a_time(monkeypatch):
    monkeypatch.setattr("windrow.scoring.compiler.CPU_OPTIONS", {"xla_cpu_experimental_ynn_fusion_type": ""})
    segments = as_segments(*random_segments(40, seed=7))
    sharding = RowSharding.over(MESHES["one device"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=4)
    model = prefix_model(VOCAB - 1, hidden=hidden, head=head)
    used = set()
    lanes = [ThreadPoolExecutor(1, initializer=lambda: used.add(threading.get_ident())) for _ in range(2)]
    monkeypatch.setattr("windrow.scoring.lanes._LANES", lanes)
    segments = replace(segments, tokens=np.minimum(segments.tokens, VOCAB - 2))
    Scorer(model, sharding, Clock()).run(plan, segments)
    assert not used


def test_batches_run_concurrently_only_where_possible():
    segments = as_segments(*random_segments(20, seed=5))
    for mesh, rows, at_once in (("one device", 2, 2), ("one device", 1, 1), ("eight devices", 16, 1)):
        sharding = RowSharding.over(MESHES[mesh]())
        plan = make_plan(segments, sharding.groups, True, batch_size=rows)
        assert Feed(plan, segments, sharding).at_once == at_once


def test_callers_jax_debug_checks_apply():
    segments = as_segments(*random_segments(20, seed=6))
    sharding = RowSharding.over(MESHES["one device"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=4)
    model = prefix_model(VOCAB)
    scorer = Scorer(
        replace(model, params=jax.tree.map(lambda leaf: leaf * np.nan, model.params)), sharding, Clock()
    )
    with jax.debug_nans(True), pytest.raises(Exception, match="nan"):
        scorer.run(plan, segments)


@pytest.mark.parametrize("chunk_length", [1, 7, 64])
def test_chunks_of_rows_do_not_change_scores(chunk_length):
    sequences, starts = random_segments(40, seed=2)
    segments = as_segments(sequences, starts)
    sharding = RowSharding.over(MESHES["eight devices"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=16, max_shapes=2)
    model = prefix_model(VOCAB, hidden=hidden, head=head, init_state=init_state, step=step)
    whole = Scorer(model, sharding, Clock()).run(plan, segments)
    asked = set()

    def state_of(params, rows, length):
        asked.add(length)
        return init_state(params, rows)

    model = replace(model, init_state=state_of)
    chunked = Scorer(model, sharding, Clock(), chunk_length).run(plan, segments)
    np.testing.assert_allclose(whole.token_logprobs, chunked.token_logprobs, atol=1e-5)
    np.testing.assert_array_equal(whole.token_greedy, chunked.token_greedy)
    assert asked >= {length for _, length in plan.shapes.tolist()}


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_callers_settings_apply_to_compilation():
    def apply(params, tokens, *_):
        return params[tokens] + tokens[..., None]  # float32 plus int32 needs non-strict promotion

    model = windrow.LanguageModel(jax.numpy.zeros((256, 256)), apply)

    class Letters:
        encode = staticmethod(lambda text: [ord(letter) for letter in text])

    with pytest.raises(ValueError, match="no available implicit dtype promotion"):
        windrow.score(model, Letters(), [("ab", "c")])
    with jax.numpy_dtype_promotion("standard"):
        scores = windrow.score(model, Letters(), [("ab", "c")])
    assert scores.log_likelihoods == pytest.approx(-np.log(256))


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_bad_arguments_are_named():
    model = prefix_model(VOCAB, init_state=init_state, step=step)

    class Letters:
        encode = staticmethod(lambda text: [ord(letter) for letter in text])

    with pytest.raises(TypeError, match="requests must be a sequence of texts or pairs, not one string"):
        windrow.score(model, Letters(), "ab")
    for given in (8, "auto", {"batch_size": 8}):
        for call in (windrow.score, windrow.generate):
            with pytest.raises(TypeError, match=r"^policy must be a windrow.BatchPolicy, such as .*, not a"):
                call(model, Letters(), ["ab"], policy=given)
        with pytest.raises(TypeError, match=r"^policy must be a windrow.BatchPolicy"):
            windrow.check_model(model, policy=given)
        with pytest.raises(TypeError, match=r"^policy must be a windrow.BatchPolicy"):
            windrow.score_stream(model, Letters(), ["ab"], "unused", policy=given)
    with pytest.raises(
        ValueError, match=r"^batch_size is 3; it must be a multiple of 8, the number of groups"
    ):
        windrow.score(
            prefix_model(VOCAB), Letters(), [("\x01", "\x02")], policy=windrow.BatchPolicy(batch_size=3)
        )
    for chunk_length in (0, -1, 2.5):
        with pytest.raises(ValueError, match="chunk_length must be a whole number of at least 1, or None"):
            Scorer(model, RowSharding.over(), Clock(), chunk_length)


def test_different_settings_compile_another_program():
    compiler = Compiler(MESHES["one device"]())

    def made():
        with compiler.one_run():
            compiler.ask("zero", jax.jit(lambda: jax.numpy.zeros((), int)))
            return compiler.get("zero")().dtype

    assert made() == np.int32
    with jax.enable_x64(True):
        assert made() == np.int64
    assert (made(), len(compiler)) == (np.int32, 2)


def test_options_unknown_to_xla_are_left_out(monkeypatch):
    known = dict(compiler.CPU_OPTIONS)
    monkeypatch.setattr(compiler, "CPU_OPTIONS", {"xla_no_such": True, **known, "xla_nor_this": "1"})
    given = []
    real = jax.stages.Lowered.compile

    def compile_with(lowered, compiler_options=None):
        given.append(compiler_options)
        return real(lowered, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_with)
    segments = as_segments(*random_segments(8, seed=7))
    sharding = RowSharding.over(MESHES["one device"]())
    plan = make_plan(segments, sharding.groups, True, batch_size=8, max_shapes=1)
    compiler.STORE.clear()
    Scorer(prefix_model(VOCAB), sharding, Clock()).run(plan, segments)
    assert given[-1] == known


def test_programs_of_each_optimization_level_are_separate(optimized, monkeypatch):
    mesh, given = MESHES["one device"](), []
    real = jax.stages.Lowered.compile

    def compile_with(lowered, compiler_options=None):
        given.append(compiler_options.get("xla_backend_optimization_level"))
        return real(lowered, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_with)
    zero = jax.jit(lambda: jax.numpy.zeros(()))
    for level in (None, 0, 1, 0, None):
        made = Compiler(mesh, level)
        with made.one_run():
            made.ask("zero", zero)
            assert made.get("zero")() == 0
    assert given == [None, 0, 1]


def test_failed_compilation_is_retried():
    compiler, errors = Compiler(MESHES["one device"]()), [RuntimeError("out of luck")]

    def zero():
        if errors:
            raise errors.pop()
        return jax.numpy.zeros(())

    with compiler.one_run():
        compiler.ask("zero", jax.jit(zero))
        with pytest.raises(RuntimeError, match="out of luck"):
            compiler.get("zero")
        compiler.ask("zero", jax.jit(zero))
        assert compiler.get("zero")() == 0


CACHED = """
    import sys
    import jax
    import windrow.scoring
    from byte_tokenizer import ByteTokenizer
    from small_model import prefix_model

    if sys.argv[1:] == ["keep"]:
        windrow.scoring.keep_on_disk()
    events = []
    model = prefix_model(256)
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
    windrow.score(model, ByteTokenizer(), [("ab", "c")])
    print(events.count("cache_misses"), events.count("cache_hits"))
"""


def cache_counts(settings, *arguments):
    """The compilation cache's misses and hits in a new process."""
    environment = {name: value for name, value in os.environ.items() if "_CACHE" not in name}
    environment |= {"PYTHONPATH": str(Path(__file__).parent), **settings}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CACHED), *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [int(count) for count in run.stdout.split()]


def test_configured_jax_compilation_cache_is_used(tmp_path):
    settings = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    misses, hits = cache_counts(settings)
    assert list(tmp_path.glob("jit_score_batch*"))
    assert misses > 0
    assert cache_counts(settings) == [0, misses + hits]


@pytest.mark.exhaustive
def test_programs_are_cached_in_the_users_cache_folder(tmp_path):
    settings = {"XDG_CACHE_HOME": str(tmp_path / "home")}
    misses, hits = cache_counts(settings, "keep")
    assert list((tmp_path / "home" / "windrow" / "programs").glob("jit_score_batch*"))
    assert misses > 0
    assert cache_counts(settings, "keep") == [0, misses + hits]
    # JAX's own setting takes precedence.
    elsewhere = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "elsewhere")}
    cache_counts({"XDG_CACHE_HOME": str(tmp_path / "unused"), **elsewhere}, "keep")
    assert not (tmp_path / "unused").exists()


def test_programs_are_not_cached_in_an_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    assert cache_counts({"XDG_CACHE_HOME": str(tmp_path / "file")}, "keep") == [0, 0]
