"""Setup for all tests: CPU devices, strict promotion, compilation caching, and evaluation material."""

import functools
import gc
import os
import warnings
from importlib.metadata import version
from pathlib import Path

# Set before JAX is loaded, and inherited by the processes that tests start. Programs are cached across runs.
# Most programs run only once, so optimizing them would cost more than it saves.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Tests do not read the source locations of operations.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
if version("jaxlib").startswith("0.10."):  # other versions reject unknown flags
    # The first flag is as in windrow's own programs; the second compiles small programs faster.
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ.setdefault("XLA_FLAGS", flags)

import pytest

from kept import kept
from local_suite import EVALS, read_local_suite, state_of


def pytest_configure(config):
    """Loads JAX, lm_eval and Hypothesis, except in the process that only distributes tests to workers."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        prepare()


def prepare():
    import jax
    import lm_eval.utils
    from hypothesis import HealthCheck, settings

    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")

    # lm_eval recompiles a task's templates for each document, which takes longer than everything else.
    lm_eval.utils.env.from_string = functools.lru_cache(1000)(lm_eval.utils.env.from_string)

    # JAX creates so many objects that garbage collection at the default frequency takes a tenth of all time.
    gc.set_threshold(20_000, 20, 100)

    # Tests have no time limits, because a busy machine is not a defect.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def layouts_are_priced(monkeypatch):
    """Prices all layouts even for small runs; otherwise, each input would get its own row."""
    from windrow.scoring import choice

    monkeypatch.setattr(choice, "CHOICE", 0)


@pytest.fixture
def optimized():
    """Compiles programs as for users: for tests that compare with recorded numbers, and long runs."""
    import jax

    from windrow.scoring import compiler

    compiler.STORE.clear()  # its keys do not include whether programs are optimized
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    compiler.STORE.clear()
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def evals() -> Path:
    """The folder of real tasks, data and recorded results next to the project; skips the test without it."""
    if not EVALS.is_dir():
        pytest.skip(f"needs the evaluation material in {EVALS}")
    return EVALS


@pytest.fixture(scope="session")
def local_suite(evals: Path) -> list:
    """The 38,003 ``loglikelihood`` requests of the local tasks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kept(lambda: read_local_suite(evals), "suite", version("lm_eval"), state_of(evals))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A small tokenizer from its files."""
    from small_tokenizer import write_tokenizer
    from windrow.tokens import load_tokenizer

    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture
def run(tokenizer, tmp_path):
    """Scores a corpus in the test's folder; see :func:`corpus_files.scored`."""
    from corpus_files import scored

    return functools.partial(scored, tokenizer, tmp_path)
