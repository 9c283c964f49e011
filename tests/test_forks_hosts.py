"""Forked states on two processes give the recorded scores, and the texts of one process."""

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from lm_eval.api.instance import Instance

import joining
from parity import recorded
from processes import Hosts, finish, launch_options
from windrow import JaxLM
from windrow.sharding import leaving_at_once

pytestmark = pytest.mark.exhaustive

EXAMPLES = " ".join(f"Question {n}: how many sheaves? Answer: {3 * n}." for n in range(8))
PROMPTS = [f"{EXAMPLES} Question {n}: and now?" for n in range(9)] + [EXAMPLES] * 5
SETTINGS = {"temperature": 0.8, "max_gen_toks": 6}


def answer(evals, folder, mesh=None):
    """Scores and samples of this process, written to a file if a folder is given."""
    lm = JaxLM(
        pretrained=str(evals / "parity" / "tiny-mamba"), batch_size=16, max_shapes=2, seed=5, mesh=mesh,
        share="forks",
    )  # fmt: skip
    cases = recorded(evals, "mamba", "loglikelihood")[:200]
    scores = lm.loglikelihood([Instance("loglikelihood", {}, args, at) for at, (args, _) in enumerate(cases)])
    asked = [Instance("generate_until", {}, (prompt, SETTINGS), at) for at, prompt in enumerate(PROMPTS)]
    found = {"scores": scores, "texts": lm.generate_until(asked), "share": lm.report()["layout"]["share"]}
    if folder is not None:
        (folder / f"found-{jax.process_index()}.json").write_text(json.dumps(found))
    return found


def test_two_processes(evals, tmp_path):
    launches = launch_options(2)
    with Hosts(tmp_path, [[Path(__file__), evals, tmp_path, *launch] for launch in launches]) as hosts:
        finish(hosts, 300)
        for host in hosts:
            assert host.status == 0, host.output
    found = [json.loads((tmp_path / f"found-{number}.json").read_text()) for number in range(2)]
    assert found[0]["texts"] == found[1]["texts"]
    assert found[0]["share"] == "forks"
    for each in found:
        for (value, flag), (_, expected) in zip(
            each["scores"], recorded(evals, "mamba", "loglikelihood"), strict=False
        ):
            assert (value, flag) == (pytest.approx(expected[0], rel=1e-5, abs=1e-3), expected[1])
    alone = answer(evals, None, Mesh(np.array(jax.devices()[:1]), ("data",)))
    assert found[0]["texts"] == alone["texts"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("evals", type=Path)
    parser.add_argument("folder", type=Path)
    given = joining.parse(parser)
    with leaving_at_once():
        given.launch.start()
        answer(given.evals, given.folder)
    sys.stdout.flush()
