"""Every example as a reader runs it: a process of its own, in the examples' folder."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

PRINTED = {
    "checkpoints": r"(?s)step 0: 0\.[0-6]\d right, [1-9]\d* programs compiled"
    r".*step 15: \d\.\d\d right, 0 programs.*step 30: \d\.\d\d right, 0 programs"
    r".*step 45: (0\.9\d|1\.00) right, 0 programs compiled",
    "equinox_model": r"5\.\d+ nats per byte; uniform guessing has 5\.549\npacked rows give the same scores",
    "flax_linen": r"(?s)Make hay while the sun shines\..*hidden and head give the same scores as apply",
    "flax_nnx": r"right: 0\.[0-5]\d before training, (0\.9\d|1\.00) after,",
    "grain_batches": r"(?s)20 segments in 20 rows, 3 batches.*perplexity per byte: \d+\.\d",
    "plain_jax": r"right: 0\.[6-9]\d\n.*requests +80: 0 deduplicated",
    "plan_batches": r"best lengths, at most 8 +1\.\d+ in \d shapes",
    "recurrent": r"(?s)163 tokens scored in chunks of 64, with the same result.*'generated_tokens': 16",
    "sharded": r"8 devices: rows in 4 parts; each has \(64, 128\) of \(64, 256\)",
}
"""What each example prints, as a regular expression."""

FRAMEWORKS = {
    "checkpoints": ["optax", "orbax"],
    "equinox_model": ["equinox"],
    "flax_linen": ["flax"],
    "flax_nnx": ["flax", "optax"],
}


def test_no_example_is_left_out():
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == set(PRINTED)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example(name):
    for package in FRAMEWORKS.get(name, []):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}; pip install 'windrow[examples]' brings it")
    result = subprocess.run(
        [sys.executable, f"{name}.py"], cwd=EXAMPLES, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert re.search(PRINTED[name], result.stdout), result.stdout
