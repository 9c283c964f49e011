"""Checkpoints from the Hub by name, with a local server in its place."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from reference_models import write
from stand_in_hub import stand_in_hub
from windrow.harness.source import find_model
from windrow.tokens import load_tokenizer

MODEL = Path(__file__).parent / "recorded" / "model"
WORKER = Path(__file__).parent / "hub_worker.py"
FETCHED = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


def fetch(calls, address, home, **environment):
    """Runs the worker; returns its output for each call."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, str(WORKER), json.dumps(calls)]
    ended = subprocess.run(command, env=clean | own, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def repositories(root):
    shutil.copytree(MODEL, root / "org" / "tiny")
    (root / "org" / "tiny" / "pytorch_model.bin").write_bytes(b"a pickle")
    (root / "org" / "tiny" / "modeling_tiny.py").write_text("raise RuntimeError")
    (root / "org" / "tiny" / "consolidated.safetensors").write_bytes(b"the same weights under other names")
    shutil.copytree(MODEL, root / "org" / "nested" / "step-7" / "hf")
    config, tensors = json.loads((MODEL / "config.json").read_text()), load_file(MODEL / "model.safetensors")
    write(root / "org" / "sharded", config, tensors, shards=2)
    for name, file in (("pickled", "pytorch_model.bin"), ("alien", "model.safetensors")):
        (root / "org" / name).mkdir()
        (root / "org" / name / file).write_bytes(b"")
        kind = "retnet" if name == "alien" else "llama"
        (root / "org" / name / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    (root / "org" / "empty").mkdir()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root, home = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("home")
    repositories(root)
    calls = {
        "whole": {"name": "org/tiny"},
        "tag, with a token": {"name": "org/tiny", "revision": "v1", "token": "hf_secret"},
        "subfolder": {"name": "org/nested", "subfolder": "step-7/hf"},
        "sharded": {"name": "org/sharded"},
        "no revision": {"name": "org/tiny", "revision": "v2"},
        "gated": {"name": "org/gated"},
        "missing": {"name": "org/nothing"},
        "pickled": {"name": "org/pickled"},
        "alien": {"name": "org/alien"},
        "empty": {"name": "org/empty"},
        "tokenizer": {"tokenizer": "org/tiny"},
        "no tokenizer": {"tokenizer": "org/nothing"},
    }
    with stand_in_hub(root) as (address, asked):
        found = dict(zip(calls, fetch(list(calls.values()), address, home), strict=True))
    later = {"cached": {"name": "org/tiny"}, "never fetched": {"name": "org/other"}}
    offline = fetch(list(later.values()), address, home, HF_HUB_OFFLINE="1")
    for weights in home.rglob("model-00002-of-00002.safetensors"):
        weights.unlink()
    half = {
        "half": {"name": "org/sharded"},
        "no network": {"name": "org/other"},
        "tokenizer, no network": {"tokenizer": "gpt2"},
    }
    down = fetch(list(half.values()), "http://127.0.0.1:9", home)
    return found | dict(zip([*later, *half], offline + down, strict=True)), asked


def test_fetched_files(results):
    found, asked = results
    assert found["whole"] == found["tag, with a token"] == found["subfolder"] == found["cached"] == FETCHED
    assert found["tokenizer"] == load_tokenizer(MODEL).decode([5, 6])
    assert len([file for file in found["sharded"] if file.startswith("model-0000")]) == 2
    paths = [path for path, _ in asked]
    assert not [path for path in paths if path.endswith((".bin", ".py", "consolidated.safetensors"))]
    assert not [path for path in paths if path.startswith("org/alien") and path.endswith(".safetensors")]
    assert {token for path, token in asked if "v1" in path} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no revision", "pretrained='org/tiny' has no revision 'v2' on the Hub"),
        ("gated", "pretrained='org/gated' is gated: accept its terms on the Hub, then set HF_TOKEN"),
        ("missing", "pretrained='org/nothing' is not on the Hub, or is private"),
        ("pickled", "pretrained='org/pickled' has no safetensors weights here: .*pickled weights"),
        ("alien", "model_type 'retnet' is not supported"),
        ("empty", "pretrained='org/empty' has no config.json on the Hub"),
        ("never fetched", "pretrained='org/other' is not in the cache, and the Hub cannot be reached"),
        ("no network", "pretrained='org/other' is not in the cache, and the Hub cannot be reached"),
        (
            "no tokenizer",
            "tokenizer 'org/nothing' is not a local path; as a name, it is not on the Hub, or is pri",
        ),
        (
            "tokenizer, no network",
            "tokenizer 'gpt2' is not a local path; as a name, it is not in the cache, and",
        ),
        ("half", "pretrained='org/sharded' is only half downloaded, and the Hub cannot be reached"),
    ],
)
def test_refused_repositories(results, case, message):
    found = results[0][case]
    assert re.search(message, found)
    assert "\n" not in found


def test_path_is_not_a_hub_name():
    for path in ("./tiny", "/models/tiny", "models/of/mine", "../tiny"):
        with pytest.raises(
            ValueError, match=r"must be a directory .* or a name on the Hub; .* is not a directory"
        ):
            find_model(None, None, path, None)
