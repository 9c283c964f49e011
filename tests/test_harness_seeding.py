"""lm_eval's seed determines the samples, unless the model has its own seed."""

import json

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from byte_model import make
from command import windrow_here
from task_files import write_tasks
from windrow.harness import JaxLM
from windrow.harness.seeding import evaluation_seed

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")

SAMPLING = "temperature=1.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("seeds")
    write_tasks(made, documents=6)
    return made


def samples(folder, model="windrow", evaluation=1, **arguments):
    """The texts that ``simple_evaluate`` samples; calls differ only in torch's seed."""
    results = simple_evaluate(
        model,
        model_args={"factory": "byte_model:make", **arguments} if model == "windrow" else None,
        tasks=["texts"],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        torch_random_seed=evaluation,
        gen_kwargs=SAMPLING,
        bootstrap_iters=0,
    )
    return [sample["resps"][0][0] for sample in results["samples"]["texts"]]


def test_evaluation_seed_determines_samples(folder):
    first = samples(folder, evaluation=1)
    assert samples(folder, evaluation=2) != first
    assert samples(folder, evaluation=1) == first
    assert len(set(first)) == 6


def test_model_seed_takes_precedence(folder):
    own = samples(folder, evaluation=1, seed=2)
    assert own == samples(folder, evaluation=3, seed=2) == samples(folder, evaluation=2)
    assert samples(folder, evaluation=None) == samples(folder, evaluation=1, seed=0)


def test_existing_model_follows_each_evaluation_seed(folder):
    model, tokenizer = make()
    lm = JaxLM(model, tokenizer)
    asked = [Instance("generate_until", {}, ("xx", {"max_gen_toks": 8, "temperature": 1.0}), 0)]
    alone = lm.generate_until(asked)
    assert samples(folder, lm, evaluation=1) == samples(folder, evaluation=1)
    assert samples(folder, lm, evaluation=2) == samples(folder, evaluation=2)
    assert lm.generate_until(asked) == alone
    assert (lm.seed, evaluation_seed()) == (0, None)


def test_seed_on_the_command_line(folder, tmp_path):
    def sampled(seed):
        output = tmp_path / str(seed)
        result = windrow_here(
            *("run", "--model_args", "factory=byte_model:make", "--include_path", folder / "tasks"),
            *("--tasks", "texts", "--gen_kwargs", SAMPLING, "--seed", seed),
            *("--log_samples", "--output_path", output),
        )
        assert result.returncode == 0, result.stderr
        lines = next(output.rglob("samples_*.jsonl")).read_text().splitlines()
        return [json.loads(line)["resps"][0][0] for line in lines]

    assert sampled(1) == samples(folder, evaluation=1)
    assert sampled(2) == samples(folder, evaluation=2)
