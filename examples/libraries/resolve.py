"""Shows that ``uv pip compile`` can resolve windrow with each library; ``uv`` must be installed.

    python examples/libraries/resolve.py [SCRIPT.py ...]

windrow's requirements come from ``pyproject.toml``, and those of a library from its script.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1] / "pyproject.toml"
BLOCK = re.compile(r"^# /// script\n(.*?)^# ///$", re.MULTILINE | re.DOTALL)
SHOWN = ("jax", "flax", "transformers", "tokenizers", "huggingface-hub", "lm-eval", "numpy")


def listed(script: Path) -> dict:
    """A script's requirements, as inline metadata."""
    found = BLOCK.search(script.read_text())
    return tomllib.loads(re.sub(r"^# ?", "", found[1], flags=re.MULTILINE)) if found else {}


def resolved(script: Path) -> dict[str, str]:
    """The resolved packages, and their versions."""
    metadata = listed(script)
    wanted = "\n".join(each for each in metadata["dependencies"] if each != "windrow")
    prerelease = metadata.get("tool", {}).get("uv", {}).get("prerelease", "if-necessary")
    command = ["uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--python-version", "3.12"]
    command += ["--prerelease", prerelease, str(PROJECT), "-"]
    made = subprocess.run(command, input=wanted, text=True, stdout=subprocess.PIPE, check=True).stdout
    return dict(line.split("==", 1) for line in made.splitlines() if "==" in line)


def main() -> None:
    scripts = [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.py"))
    for script in filter(listed, scripts):
        found = resolved(script)
        versions = " ".join(f"{name}=={found[name]}" for name in SHOWN if name in found)
        print(f"{script.stem}: {len(found)} packages, {versions}", flush=True)


if __name__ == "__main__":
    main()
