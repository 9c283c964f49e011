"""Texts on two processes match those on one, and those of lm_eval's own backend."""

import argparse
import json
import sys
from pathlib import Path

import jax
import pytest
from lm_eval.api.instance import Instance

import joining
from processes import Hosts, finish, launch_options
from windrow import JaxLM
from windrow.sharding import leaving_at_once

pytestmark = pytest.mark.exhaustive


def recorded(evals):
    lines = (evals / "parity" / "llama.jsonl").read_text().split("\n")
    return [json.loads(line) for line in lines if '"generate_until"' in line]


def answer(evals, folder, mesh=None):
    """Greedy texts and samples of this process, written to a file if a folder is given."""
    lm = JaxLM(pretrained=str(evals / "parity" / "tiny-llama"), batch_size=16, seed=5, mesh=mesh)
    asked = [tuple(case["args"]) for case in recorded(evals)]
    asked += [(context, {"temperature": 0.8, "max_gen_toks": 20}) for context, _ in asked[:8]]
    texts = lm.generate_until([Instance("generate_until", {}, args, at) for at, args in enumerate(asked)])
    if folder is not None:
        (folder / f"texts-{jax.process_index()}.json").write_text(json.dumps(texts))
    return texts


def test_two_processes_generate_the_recorded_texts(evals, tmp_path):
    launches = launch_options(2)
    with Hosts(tmp_path, [[Path(__file__), evals, tmp_path, *launch] for launch in launches]) as hosts:
        finish(hosts, 300)
        for host in hosts:
            assert host.status == 0, host.output
    texts = [json.loads((tmp_path / f"texts-{number}.json").read_text()) for number in range(2)]
    assert texts[0] == texts[1]
    cases = recorded(evals)
    assert texts[0][: len(cases)] == [case["result"] for case in cases]
    assert texts[0] == answer(evals, None, jax.sharding.Mesh(jax.devices()[:1], ("data",)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("evals", type=Path)
    parser.add_argument("folder", type=Path)
    given = joining.parse(parser)
    with leaving_at_once():
        given.launch.start()
        answer(given.evals, given.folder)
    sys.stdout.flush()
