"""What every test shares: several CPU devices, strict promotion, the evaluation material."""

import warnings
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

from local_suite import EVALS, read_local_suite

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# No test is timed: a busy machine is no defect.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def evals() -> Path:
    """The folder of real tasks, data and recorded results beside the project; skips where it is absent."""
    if not EVALS.is_dir():
        pytest.skip(f"needs the evaluation material in {EVALS}")
    return EVALS


@pytest.fixture(scope="session")
def local_suite(evals: Path) -> list:
    """The 38,003 ``loglikelihood`` requests of the local tasks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_local_suite(evals)
