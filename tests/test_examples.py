"""Runs every example as a reader would, in a separate process and in the examples' folder."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.exhaustive

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

PRINTED = {
    "checkpoints": r"(?s)step   0  loss  5\.\d\d ▒+ +right 0\.[0-5]\d"
    r".*step 120  loss  0\.\d\d .*right (0\.9\d|1\.00) █+"
    r".*7 evaluations; after the first, no programs were compiled",
    "equinox_model": r"5\.\d+ nats per byte; uniform guessing has 5\.549\npacked rows give the same scores",
    "flax_linen": r"(?s)Make hay while the sun shines\..*hidden and head give the same scores as apply",
    "flax_nnx": r"right: 0\.[0-5]\d before training, (0\.9\d|1\.00) after,",
    "grain_batches": r"(?s)20 segments in 20 rows, 3 batches.*perplexity per byte: \d+\.\d",
    "plain_jax": r"right: 0\.[6-9]\d\n.*requests +80: 0 deduplicated",
    "plan_batches": r"best lengths, at most 8 +1\.\d+ in \d shapes",
    "recurrent": r"(?s)163 tokens scored in chunks of 64, with the same result.*'generated_tokens': 16",
    "sharded": r"8 devices: rows in 4 parts; each has \(64, 128\) of \(64, 256\)",
}
"""The output of each example, as a regular expression."""

FRAMEWORKS = {
    "checkpoints": ["flax", "optax", "orbax"],
    "equinox_model": ["equinox"],
    "flax_linen": ["flax"],
    "flax_nnx": ["flax", "optax"],
}

LIBRARIES = {
    "easydel_llama": "easydel",
    "flax_llama": "transformers==4.",
    "gemma2": "gemma",
    "levanter_llama": "marin-levanter",
    "maxtext_llama": "maxtext",
    "penzai_llama": "penzai",
    "tunix_llama": "google-tunix",
    "tunix_training": "google-tunix",
}
"""The scripts of examples/libraries and what they need; the workflow "tests" has a job for each."""


def test_every_example_is_tested():
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {*PRINTED, "any_hf"}  # any_hf has its own test
    libraries = (EXAMPLES / "libraries").glob("*.py")
    assert {path.stem for path in libraries if path.read_text().startswith("# ///")} == set(LIBRARIES)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example(name):
    for package in FRAMEWORKS.get(name, []):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}; pip install 'windrow[examples]' brings it")
    assert re.search(PRINTED[name], printed(EXAMPLES, f"{name}.py"))


def printed(folder, *command):
    """The output of a script in a separate process."""
    result = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def skip_without(requirement):
    name, _, prefix = requirement.partition("==")
    try:
        found = version(name)
    except PackageNotFoundError:
        pytest.skip(f"needs {name}; uv run examples/libraries/SCRIPT.py installs what the script lists")
    if not found.startswith(prefix):
        pytest.skip(f"needs {name} {prefix}x, but {found} is installed")


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_script_of_a_library(name):
    """Each script asserts that windrow's results match those of the library and of lm_eval's own backend."""
    skip_without(LIBRARIES[name])
    found = printed(EXAMPLES / "libraries", f"{name}.py")
    if name == "tunix_training":
        assert "after the first evaluation, no programs were compiled" in found
    else:
        assert "four devices" in found


def test_stored_gemma(evals):
    skip_without(LIBRARIES["gemma2"])
    parity = evals / "parity"
    found = printed(
        EXAMPLES / "libraries", "gemma2.py", str(parity / "tiny-gemma2"), str(parity / "gemma2.jsonl")
    )
    assert "texts generated, the same as by lm_eval's own backend" in found


def test_every_library_script_has_a_job():
    workflow = yaml.safe_load((EXAMPLES.parent / ".github" / "workflows" / "tests.yml").read_text())
    assert sorted(workflow["jobs"]["libraries"]["strategy"]["matrix"]["script"]) == sorted(LIBRARIES)
