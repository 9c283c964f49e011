"""The README's Python, as it stands there."""

import re
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*encode")
def test_your_model_in_ten_lines(evals, capsys):
    """Run on a task that needs no network; nothing else is changed."""
    asked = 'tasks=["arc_easy"], limit=100'
    code = blocks()[0]
    assert asked in code
    manager = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    code = code.replace(asked, 'tasks=["local_arc_easy"], limit=10, task_manager=manager, bootstrap_iters=0')
    exec(code, {"manager": manager})
    printed = capsys.readouterr().out
    assert "local_arc_easy" in printed
    assert "'requests': 40" in printed


def test_planning_on_its_own(capsys):
    """What the comments promise is what is printed."""
    exec(blocks()[1], {})
    assert capsys.readouterr().out.splitlines()[-1] == "[[2, 7], [2, 3]]"
