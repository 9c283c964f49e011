"""The guide and the README: Python blocks run, commands exist, and figures match their script."""

import doctest
import inspect
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import jax
import pytest

import windrow.planning
from command import windrow_here
from processes import Hosts, finish, free_port

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
HOSTS = DOCS / "hosts.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FRAMEWORKS = ("flax", "equinox")

OTHERS_TASK = 'tasks=["arc_easy"]'
DEMOS_TASK = 'tasks=["demo_questions"], task_manager=manager, bootstrap_iters=0'
"""Replaces a task of lm_eval, whose data would have to be downloaded."""

MANAGER = "from windrow.demo.evaluation import task_manager\nmanager = task_manager()\n"

PROMISE = re.compile(r"^(?:print\((?P<printed>.*)\)|(?P<name>\w+) = .*?)  # (?P<value>[\[('].*?)(?:[:;].*)?$")
"""A line with a comment that shows what it prints or assigns: an array, a list or a string."""


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(page.read_text()) if found == language]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def squeezed(text: object) -> str:
    """The text in one line, with single spaces."""
    return re.sub(r"\s+", " ", str(text))


@pytest.fixture
def as_a_reader(tmp_path, monkeypatch):
    """An empty folder, and JAX with default settings; a context manager would not affect other threads."""
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.mark.usefixtures("as_a_reader")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != HOSTS and blocks(page, "python")], ids=named
)
def test_python_blocks_run_and_match_their_comments(page, monkeypatch, capsys):
    """Runs all blocks of a page in order in one module; results must match the comments."""
    for framework in FRAMEWORKS:
        if re.search(rf"^(?:from|import) {framework}\b", page.read_text(), re.MULTILINE) and not find_spec(
            framework
        ):
            pytest.skip(f"needs {framework}; pip install 'windrow[examples]' brings it")
    module = type(sys)("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for number, block in enumerate(blocks(page, "python"), 1):
        code = block.replace(OTHERS_TASK, DEMOS_TASK)
        code = code if code == block else MANAGER + code
        exec(compile(code, f"{page.name}, block {number}", "exec"), module.__dict__)
        printed = squeezed(capsys.readouterr().out)
        for promise in filter(None, map(PROMISE.match, block.splitlines())):
            found = printed if promise["name"] is None else squeezed(vars(module)[promise["name"]])
            assert promise["value"] in found, f"{page.name}, block {number}: {promise[0]}"


def test_readme_model_scores(evals, as_a_reader, capsys):
    """The README's first block on real questions."""
    from lm_eval.tasks import TaskManager

    code = blocks(README, "python")[0]
    assert OTHERS_TASK in code
    manager = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    code = code.replace(OTHERS_TASK, DEMOS_TASK.replace("demo_questions", "local_arc_easy"))
    exec(code.replace("limit=100", "limit=10"), {"manager": manager})
    printed = capsys.readouterr().out
    assert "local_arc_easy" in printed
    assert "requests    40:" in printed


@pytest.mark.exhaustive
def test_python_for_several_hosts_runs_on_two_processes(evals, tmp_path):
    """Runs the page's own lines, except for the address and the tasks."""
    (code,) = blocks(HOSTS, "python")
    changes = {
        "initialize(": f'initialize("127.0.0.1:{free_port()}", 2, int(sys.argv[1]), ',
        "/models/llama": str(evals / "parity" / "tiny-llama"),
        OTHERS_TASK: f"{DEMOS_TASK}, limit=4",
        "import jax\n": "import sys\nimport jax\n",
        "with leaving": f"{MANAGER}with leaving",
    }
    for old, new in changes.items():
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    script = tmp_path / "several.py"
    script.write_text(code + "\nprint('ended with', results and results['results'])\n")
    with Hosts(tmp_path, [[script, 0], [script, 1]]) as hosts:
        finish(hosts, timeout=120)
        assert [host.status for host in hosts] == [0, 0], hosts[0].output + hosts[1].output
        assert "ended with {'demo_questions'" in hosts[0].output
        assert "ended with None" in hosts[1].output


def commands() -> list[list[str]]:
    """The arguments of every ``windrow`` command in a block of shell commands."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.split(r"[\s\"'`]+", line.partition("#")[0].strip())
                if "windrow" in words and words[0] != "pip":
                    found.append(words[words.index("windrow") :])
    return found


@cache
def help_of(command: str) -> str:
    result = windrow_here(command, "--help")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_their_options_exist(words):
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", help_of(words[1])), option
    assert help_of(words[1])
    if "--model_args" in words:
        accepted = inspect.signature(windrow.JaxLM).parameters
        for argument in words[words.index("--model_args") + 1].split(","):
            assert argument.partition("=")[0] in accepted


def test_figures_match_their_script(tmp_path):
    runpy.run_path(str(DOCS / "draw.py"))["main"](tmp_path)
    drawn = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_text() for path in (DOCS / "pictures").glob("*.svg")}
    assert all(any(f"pictures/{name}" in page.read_text() for page in PAGES) for name in drawn)


def test_code_blocks_are_narrow():
    """Code blocks are at most 75 columns wide."""
    long = [
        f"{named(page)}: {line}"
        for page in PAGES
        for language in ("python", "sh", "text")
        for block in blocks(page, language)
        for line in block.splitlines()
        if len(line) > 75
    ]
    assert long == []


def test_notebook_matches_its_page_and_was_executed():
    script = runpy.run_path(str(DOCS / "notebook.py"))
    kept = json.loads((DOCS / "notebook.ipynb").read_text())
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in kept["cells"]]
    assert cells == list(script["cells"]((DOCS / "notebooks.md").read_text()))
    shown = ["".join(cell["source"]) for cell in kept["cells"] if cell.get("outputs")]
    assert shown == ["\n".join(blocks(DOCS / "notebooks.md", "python")[0].splitlines()), "lm.report()"]


def test_cells_are_executed_as_in_a_notebook():
    executed = runpy.run_path(str(DOCS / "notebook.py"))["executed"]
    names = {}
    assert executed("import windrow\nx = 1", names, 1)["outputs"] == []
    printed, value = executed("print('a')\nx + 1", names, 2)["outputs"]
    assert printed["text"] == ["a\n"]
    assert value["data"] == {"text/plain": ["2"]}


def need_the_docs_extra():
    if not (find_spec("material") and find_spec("griffe")):
        pytest.skip("needs the docs extra; pip install 'windrow[docs]' brings it")


def test_docstrings_are_converted_to_markdown():
    need_the_docs_extra()
    spec = spec_from_file_location("docstrings", DOCS / "docstrings.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def described_in(page: Path) -> list[str]:
    """The names on a page of the reference, and the exports of the modules among them."""
    names = re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
    exported = {"windrow.planning": windrow.planning.__all__}
    return names + [f"{name}.{each}" for name in names for each in exported.get(name, [])]


@pytest.mark.exhaustive
def test_guide_builds_without_warnings(tmp_path):
    need_the_docs_extra()
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    pages = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    assert {str(page.relative_to(DOCS).with_suffix(".html")) for page in PAGES[1:]} <= pages
    for page in (DOCS / "reference").glob("*.md"):
        shown = (tmp_path / "reference" / f"{page.stem}.html").read_text()
        for name in described_in(page):
            assert f'id="{name}"' in shown, f"{page.name} does not show {name}"
    linked = re.compile(r"(?:src|href)=\"https?://[^\"]*\.(?:js|css|woff2?)\b")
    for page in pages:
        assert not linked.search((tmp_path / page).read_text()), f"{page} fetches something"
    assert (tmp_path / "search" / "search_index.js").is_file()
    assert 'src="assets/iframe-worker.js"' in (tmp_path / "index.html").read_text()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium:
        assert "matching documents" in searched(chromium, tmp_path / "index.html")


def searched(browser: str, page: Path) -> str:
    """The page, opened from its folder, as a browser shows it after a search."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom")
    called = [browser, *options, f"file://{page}?q=padding"]
    return subprocess.run(called, capture_output=True, text=True, timeout=200).stdout
