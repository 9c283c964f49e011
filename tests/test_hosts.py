"""Several processes on one machine: one plan, the same batches and scores, and a clear error if one fails."""

import json
import re
import signal

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from sqlitedict import SqliteDict

from exhaustive import exhaustive
from host_worker import generated_lm, generated_pairs, instances
from local_suite import EVALS
from processes import TESTS, Hosts, finish, launch_options
from windrow.harness import JaxLM

WORKER = TESTS / "host_worker.py"
SHARDINGS = ("data", "tensor", "replicated")
COUNTS = (1, 2, 4)


def workers(folder, tasks, count, *options, heartbeat=60):
    launches = launch_options(count, heartbeat) if count > 1 else [["--process-count", 1]]
    return Hosts(folder, [[WORKER, tasks, folder, *options, *launch] for launch in launches])


def results(folder, task, count, *options, timeout=300):
    return results_of_each(folder, [task], count, *options, timeout=timeout)[task]


def results_of_each(folder, tasks, count, *options, timeout=300):
    """The results of all processes in each task."""
    folder.mkdir(exist_ok=True)
    with workers(folder, ",".join(tasks), count, *options) as hosts:
        finish(hosts, timeout)
        for host in hosts:
            assert host.status == 0, host.output
    return {
        task: [json.loads((folder / f"{task}-{number}.json").read_text()) for number in range(count)]
        for task in tasks
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The results of two processes in several tasks, one of them with a real model if available."""
    real = (["harness"], ["--evals", EVALS]) if EVALS.is_dir() else ([], [])
    tasks = ["disagree", "caching", "auto", *real[0]]
    return results_of_each(tmp_path_factory.mktemp("pair"), tasks, 2, *real[1])


def merged_digests(found, name):
    """The rows of all processes; processes with the same row must have the same bytes."""
    whole = {}
    for result in found:
        for batch, rows in result["digests"][name].items():
            for row, digest in rows.items():
                assert whole.setdefault((int(batch), int(row)), digest) == digest
    return whole


def assert_same_work(runs):
    for name in SHARDINGS:
        expected = merged_digests(runs[1], name)
        reference = runs[1][0]["scores"]["data"]
        for found in runs.values():
            assert merged_digests(found, name) == expected
            for result in found:
                scores = result["scores"][name]
                np.testing.assert_allclose([s for s, _ in scores], [s for s, _ in reference], atol=1e-4)
                assert [flag for _, flag in scores] == [flag for _, flag in reference]


@pytest.mark.exhaustive
def test_batches_and_scores_do_not_depend_on_the_number_of_processes(tmp_path):
    runs = {count: results(tmp_path / str(count), "work", count) for count in COUNTS}
    assert_same_work(runs)
    rows = {count: [len(r["digests"]["data"]["0"]) for r in found] for count, found in runs.items()}
    assert rows == {1: [32], 2: [16, 16], 4: [8, 8, 8, 8]}  # each process collates only its own rows
    assert all(len(r["digests"]["replicated"]["0"]) == 32 for r in runs[4])


@pytest.mark.exhaustive
def test_real_requests_on_a_trained_model(tmp_path, evals):
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    pairs = []
    for name in ("local_arc_easy", "local_piqa"):
        (task,) = tasks.load([name])["tasks"].values()
        task.build_all_requests(rank=0, world_size=1)
        pairs += [request.args for request in task.instances]
    pairs = sorted(pairs, key=lambda pair: len(pair[0] + pair[1]))[:2000]
    np.random.default_rng(0).shuffle(pairs)
    assert len(pairs) == 2000
    runs = {}
    for count in COUNTS:
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "pairs.json").write_text(json.dumps(pairs))
        runs[count] = results(folder, "real", count, "--evals", evals, timeout=600)
    assert_same_work(runs)


def test_all_processes_raise_the_same_error(pair, tmp_path):
    first, second = pair["disagree"]
    assert first["messages"] == second["messages"]
    messages, pairs = first["messages"], generated_pairs(40)
    assert (
        "request 7 (task questions, document 7) on process 1 differs from process 0's" in messages["request"]
    )
    assert repr(str(pairs[7]))[1:40] in messages["request"].replace("\\'", "'")
    assert "another question" in messages["request"]
    assert re.search(r"request 7 .* From byte 1\d\d on they are .*0.* and .*1", messages["late"])
    assert "request 39 (task questions, document 39) on process 1" in messages["fewer"]
    assert "(no such request)" in messages["fewer"]
    assert "the setting request type on process 1" in messages["type"]
    for call, setting in (("score", "policy"), ("score", "sharding"), ("generate", "seed")):
        assert "request" in messages[f"{call}: request"], call
        assert f"the setting {setting} on process 1" in messages[f"{call}: {setting}"]
    assert re.search(r"the call on process 1 .* 'windrow.score\(.* 'windrow.generate\(", messages["call"])
    assert "the setting keep_results on process 1" in messages["keep"]
    assert "the setting --tasks on process 1" in messages["command"]
    assert "the setting encoded requests on process 1 differs" in messages["encoded"]
    assert re.search(
        r"input 1 on process 1 .*'input b.jsonl: 18 bytes.*'\(no such request\)'", messages["stream: input"]
    )
    assert "process 1 cannot see the files that process 0 writes to" in messages["stream: folder"]
    assert "scores-0; give all processes the same output folder" in messages["stream: folder"]
    # With this option, all processes use the requests of process 0.
    expected = generated_lm(tmp_path, None).loglikelihood(instances(pairs))
    for result in (first, second):
        np.testing.assert_allclose([s for s, _ in result["scores"]], [s for s, _ in expected], atol=1e-4)


@pytest.mark.parametrize("what", [exhaustive("request"), exhaustive("tokenizer"), "batch size"])
def test_processes_with_different_work_exit_with_the_same_message(tmp_path, what):
    with workers(tmp_path, "differ", 2, "--what", what) as hosts:
        finish(hosts, 60)
    messages = [re.findall("^windrow: .*", host.output, re.MULTILINE) for host in hosts]
    assert messages[0][:1] == messages[1][:1], hosts[0].output
    assert "hosts do not have the same work" in messages[0][0]
    named = {
        "request": "request 0",
        "tokenizer": "the setting tokenizer",
        "batch size": "the setting batch policy",
    }
    assert named[what] in messages[0][0]
    assert all(host.status not in (None, 0) for host in hosts)


@pytest.mark.exhaustive
def test_stopped_process_does_not_block_the_feeding_of_another(tmp_path):
    with workers(tmp_path, "feed", 2) as hosts:
        for host in hosts:
            host.wait_for("agreed", 120)
        hosts[1].signal(signal.SIGSTOP)
        (tmp_path / "stopped").touch()
        hosts[0].wait_for("fed all", 30)
        hosts[1].signal(signal.SIGCONT)
        (tmp_path / "fed").touch()
        finish(hosts, 120)
        assert [host.status for host in hosts] == [0, 0], hosts[0].output + hosts[1].output
    fed = re.findall(r"fed (\d+) batches", hosts[0].output)
    assert len(fed) == len(SHARDINGS)
    assert all(int(count) > 5 for count in fed)
    assert all("scored" in host.output for host in hosts)


@pytest.mark.exhaustive
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("what", ["raise", "kill", "stop"])
def test_other_processes_exit_when_one_fails(tmp_path, what, victim):
    with workers(tmp_path, "fail", 2, "--what", f"{what}:{victim}", heartbeat=10) as hosts:
        failing, other = hosts[victim], hosts[1 - victim]
        if what == "stop":
            failing.wait_for("fails", 180)
        else:
            finish([failing], 180)
        assert finish([other], 60) < 40
        assert other.status not in (None, 0)
        assert "ended" not in other.output
        assert re.search("another process has exited|another task died", other.output)
        if what == "raise":
            assert failing.status == 1
            assert "the model function gives up" in failing.output


def cached_results(path):
    with SqliteDict(str(path)) as known:
        return dict(known)


@pytest.mark.exhaustive
def test_command_line_with_a_partial_cache_on_process_0(tmp_path, evals):
    checkpoint, options = evals / "parity" / "tiny-llama", {"limit": 20, "bootstrap_iters": 0}
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    cache = tmp_path / "cache"
    single = simple_evaluate(
        JaxLM(pretrained=str(checkpoint)),
        tasks=["local_arc_easy"],
        task_manager=tasks,
        use_cache=str(cache),
        **options,
    )["results"]["local_arc_easy"]
    whole = cached_results(f"{cache}_rank0.db")
    assert len(whole) == 80
    with SqliteDict(f"{cache}_rank0.db", autocommit=True) as known:
        for name in sorted(whole)[::2]:
            del known[name]
    command = ["-m", "windrow", "run", "--model", "windrow", "--model_args", f"pretrained={checkpoint}"]
    command += ["--tasks", "local_arc_easy", "--include_path", evals / "tasks", "--limit", 20]
    command += ["--use_cache", cache, "--output_path", tmp_path / "out"]
    launches = launch_options(2)
    with Hosts(tmp_path, [[*command, *launch] for launch in launches]) as hosts:
        finish(hosts, 240)
        assert [host.status for host in hosts] == [0, 0], hosts[0].output + hosts[1].output
    for host in hosts:
        assert "Cached requests: 40, Requests remaining: 40" in host.output
    assert "|local_arc_easy|" in hosts[0].output
    assert "|local_arc_easy|" not in hosts[1].output
    assert "tok/s" not in hosts[1].output
    (file,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(file.read_text())["results"]["local_arc_easy"]["acc,none"] == single["acc,none"]
    for rank in (0, 1):
        filled = cached_results(f"{cache}_rank{rank}.db")
        assert filled.keys() == whole.keys()
        assert np.allclose([filled[name][0] for name in whole], [whole[name][0] for name in whole], atol=1e-4)


def test_cache_of_another_model_is_refused_on_all_processes(pair):
    first, second = pair["caching"]
    assert (first["same"], first["ran"]) == (second["same"], second["ran"]) == (True, 0)
    assert re.search(
        r"kept_rank0.db does not match this run \(different parameters, model function\)", first["message"]
    )
    assert first["message"] == second["message"]


def test_batch_sizes_are_equal_on_all_processes(pair):
    first, second = pair["auto"]
    for name in ("report", "given", "texts"):
        assert first[name] == second[name]
    # Each process uses its share of half of the smaller available memory: 48 MiB.
    assert first["report"]["scoring"]["memory_budget"] == 12 << 20
    assert first["report"]["generation"]["memory_budget"] == 12 << 20
    assert first["given"]["memory_budget"] == 120 << 20
    assert first["given"]["tokens_per_batch"] > first["report"]["scoring"]["tokens_per_batch"]
    np.testing.assert_allclose([s for s, _ in first["scores"]], [s for s, _ in second["scores"]], atol=1e-5)


def test_simple_evaluate_returns_results_only_on_process_0(pair, evals):
    first, second = pair["harness"]
    assert 0 <= first["accuracy"] <= 1
    assert second["accuracy"] is None
