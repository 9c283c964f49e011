"""What a release holds: all that a wheel is built from, and nothing else."""

import subprocess
import sys
import tarfile
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The source distribution of this tree, in a folder of its own."""
    folder = tmp_path_factory.mktemp("sdist")
    called = [sys.executable, "-m", "maturin", "sdist", "--out", str(folder)]
    result = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    (archive,) = folder.glob("*.tar.gz")
    assert archive.stat().st_size < 500_000
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def test_an_sdist_has_every_source(unpacked):
    needed = {"LICENSE", "README.md", "CHANGELOG.md", "Cargo.toml", "Cargo.lock", "pyproject.toml"}
    for folder, suffixes in (("rust", {".rs", ".toml"}), ("python", {".py", ".pyi", ".typed", ".yaml"})):
        found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
        needed |= {str(path) for path in found if path.suffix in suffixes or path.name in suffixes}
    assert {name for name in needed if not (unpacked / name).exists()} == set()


def test_an_sdist_has_nothing_else(unpacked):
    left_out = ("docs", "examples", "tests", "fuzz", ".ci", ".github", "mkdocs.yml")
    assert [name for name in left_out if (unpacked / name).exists()] == []
    assert list(unpacked.rglob("*.svg")) == []
    assert list(unpacked.rglob("*.so")) == []


def test_cargo_reads_every_manifest_of_an_sdist(unpacked):
    """A manifest that names a missing target, such as a bench, would end each build from it."""
    called = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    result = subprocess.run(called, cwd=unpacked, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_the_package_is_typed_and_described():
    assert files("windrow").joinpath("py.typed").is_file()
    assert files("windrow").joinpath("_rust.pyi").is_file()
    described = metadata("windrow")
    assert described["Requires-Python"] == ">=3.11"
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Summary"]
    assert "Typing :: Typed" in described.get_all("Classifier")
