"""Hosts with different numbers of devices, each with its own parameters."""

import json

import numpy as np
import pytest

import windrow
from byte_tokenizer import ByteTokenizer
from processes import TESTS, Hosts, finish, free_port
from small_model import head, hidden, init_state, prefix_model, step
from uneven_worker import PAIRS, PROMPTS

pytestmark = pytest.mark.exhaustive


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_hosts_with_different_numbers_of_devices(tmp_path):
    devices, port = (1, 3), free_port()
    commands = [
        [TESTS / "uneven_worker.py", port, len(devices), process, tmp_path / f"{process}.json"]
        for process in range(len(devices))
    ]
    variables = [{"JAX_NUM_CPU_DEVICES": str(count)} for count in devices]
    with Hosts(tmp_path, commands, variables=variables) as hosts:
        finish(hosts, 300)
        assert [host.status for host in hosts] == [0, 0], "\n".join(host.output for host in hosts)
    found = [json.loads((tmp_path / f"{process}.json").read_text()) for process in range(len(devices))]
    model = prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step)
    expected = windrow.score(model, ByteTokenizer(), PAIRS).log_likelihoods
    texts = windrow.generate(model, ByteTokenizer(), PROMPTS, max_new_tokens=4, end_tokens=[]).texts
    for host, own in zip(found, devices, strict=True):
        assert host["devices"] == own
        assert host["reports"] == {"count": 4, "kind": "cpu", "hosts": 2}
        for scores, generated in host["scores"].values():
            np.testing.assert_allclose(scores, expected, atol=1e-4)
            assert generated == texts
        assert "the setting params['embedding'] on process 1 differs from process 0's" in host["refused"]
