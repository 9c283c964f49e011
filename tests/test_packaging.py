"""The contents of a release: everything needed to build a wheel, and nothing else."""

import re
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
    """The source distribution of this tree, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    called = [sys.executable, "-m", "maturin", "sdist", "--out", str(folder)]
    result = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    (archive,) = folder.glob("*.tar.gz")
    assert archive.stat().st_size < 500_000
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def test_sdist_has_every_source(unpacked):
    needed = {"LICENSE", "README.md", "CHANGELOG.md", "Cargo.toml", "Cargo.lock", "pyproject.toml"}
    for folder, suffixes in (("rust", {".rs", ".toml"}), ("python", {".py", ".pyi", ".typed", ".yaml"})):
        found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
        needed |= {str(path) for path in found if path.suffix in suffixes or path.name in suffixes}
    needed = {name for name in needed if not name.startswith("rust/tokens/tests/")}
    assert {name for name in needed if not (unpacked / name).exists()} == set()


def test_sdist_has_nothing_else(unpacked):
    left_out = ("docs", "examples", "tests", "benches", "fuzz", ".ci", ".github", "mkdocs.yml", "Makefile")
    assert [name for name in left_out if (unpacked / name).exists()] == []
    assert list(unpacked.rglob("tests")) == []
    assert list(unpacked.rglob("*.svg")) == []
    assert list(unpacked.rglob("*.so")) == []


def test_cargo_reads_every_manifest_of_the_sdist(unpacked):
    """A manifest that names a missing target, such as a bench, would break every build."""
    called = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    result = subprocess.run(called, cwd=unpacked, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_package_has_types_and_metadata():
    assert files("windrow").joinpath("py.typed").is_file()
    assert files("windrow").joinpath("_rust.pyi").is_file()
    described = metadata("windrow")
    assert described["Requires-Python"] == ">=3.11"
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Summary"]
    assert "Typing :: Typed" in described.get_all("Classifier")


def yaml_of(path):
    import yaml

    return yaml.safe_load((ROOT / path).read_text())


def test_classifiers_are_tested():
    """Every Python version and operating system in the metadata has a CI job that tests it or its wheel."""
    claimed = metadata("windrow").get_all("Classifier")
    pythons = {name.split(" :: ")[-1] for name in claimed if re.search(r"Python :: 3\.\d+$", name)}
    matrix = yaml_of(".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert pythons == set(matrix["python"])
    runners = {*matrix["runner"], *(each["runner"] for each in matrix["include"])}
    wheels = yaml_of(".github/workflows/wheels.yml")["jobs"]["wheel"]["strategy"]["matrix"]["include"]
    runners |= {each["runner"] for each in wheels if each["native"]}
    systems = {"Linux": "ubuntu", "MacOS": "macos", "Windows": "windows"}
    for name in (each.split(" :: ")[-1] for each in claimed if each.startswith("Operating System")):
        assert any(runner.startswith(systems[name]) for runner in runners), name


def test_citation_names_this_version():
    cited = yaml_of("CITATION.cff")
    assert cited["version"] == metadata("windrow")["Version"]
    assert cited["license"] == metadata("windrow")["License-Expression"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_github_files_are_valid_yaml(path):
    assert yaml_of(path)["name"]


def test_hooks_call_existing_tools():
    for hook in yaml_of(".pre-commit-config.yaml")["repos"][0]["hooks"]:
        program = hook["entry"].split()[0]
        assert program == "cargo" or (Path(sys.executable).parent / Path(program).name).exists()
