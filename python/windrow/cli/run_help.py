"""The help of ``windrow run``: its own options, then lm_eval's options with windrow's defaults.

lm_eval's options are taken from its own help, so they match the installed version. Its usage, other model
types and their defaults are omitted.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from textwrap import fill

Options = list[tuple[str, str]]
"""Flags and their descriptions."""

EXAMPLES = """\
examples:
  # your own model: make_model() in my_module.py returns a model and a tokenizer
  windrow run --model_args factory=my_module:make_model --tasks arc_easy --limit 100

  # a checkpoint in the Hugging Face format
  windrow run --model_args pretrained=/models/llama,dtype=bfloat16 \\
      --tasks arc_easy,gsm8k --output_path results --log_samples

  # tasks of your own, with results saved in case the run is interrupted
  windrow run --model_args pretrained=/models/llama --tasks my_task \\
      --include_path tasks --resume kept

windrow ls lists the tasks; windrow plan shows how they would be batched."""

WORDS = {
    "--model": "model type (default: windrow)",
    "--model_args": "arguments of windrow.JaxLM as key=val,key2=val2 or JSON: pretrained, factory, dtype, "
    "max_length, tokens_per_batch, max_shapes, share, pack, memory_budget, ...",
    "--tasks": "names of tasks, groups or tags, or patterns of them, separated by spaces or commas; "
    "windrow ls lists them",
    "--batch_size": "rows per batch, or auto: as many tokens as fit in memory (default: auto)",
    "--max_batch_size": "accepted and ignored",
    "--device": "recorded in the results but otherwise ignored: JAX chooses its devices (see JAX_PLATFORMS)",
    "--include_path": "directory with your own task files",
    "--use_cache": "lm_eval's own results cache; --resume also saves samples and survives a crash",
    "--limit": "number of documents per task, or the fraction if below 1",
    "--output_path": "directory or .json file for results, samples and the report of the run",
}
"""Descriptions that differ from lm_eval's own help."""

_INDENT = " " * 24
_HEADING = re.compile(r"^(\S.*):$")
_OPTION = re.compile(r"^  (-\S.*?)(?:  +(\S.*))?$")


def harness_options(text: str) -> Iterator[tuple[str, Options]]:
    r"""The groups of options in a help text: a heading, and each option's flags and description.

    Args:
        text: The help of an ``argparse`` parser, printed without wrapping.

    >>> list(harness_options("usage: x\n\ndata:\n  --limit, -L <n>  Limit them\n\nexamples:\n  x\n"))
    [('data', [('--limit, -L <n>', 'Limit them')])]
    """
    heading, options = "", Options()
    for line in text.splitlines():
        if found := _HEADING.match(line):
            if options:
                yield heading, options
            heading, options = found[1], Options()
        elif found := _OPTION.match(line):
            options.append((found[1], found[2] or ""))
        elif options and line.strip():
            name, words = options.pop()
            options.append((name, f"{words} {line.strip()}".strip()))
    if options:
        yield heading, options


def written(groups: Iterable[tuple[str, Options]], width: int) -> str:
    """The groups as lines of help, with the descriptions of `WORDS`."""
    lines = []
    for heading, options in groups:
        shown = [(flags, WORDS.get(re.split("[ ,]", flags)[0], words)) for flags, words in options]
        lines += ["", f"{heading}:"]
        for flags, words in shown:
            text = fill(words, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
            if len(flags) > len(_INDENT) - 4:
                lines += [f"  {flags}", text]
            else:
                lines += [f"  {flags}".ljust(len(_INDENT)) + text[len(_INDENT) :]]
    return "\n".join(lines)


def run_help(own: str, harness: str) -> str:
    """The whole help.

    Args:
        own: The help of windrow's own options.
        harness: The help of lm_eval's options, printed without wrapping.
    """
    width = max(40, shutil.get_terminal_size().columns - 2)
    groups = [(heading, options) for heading, options in harness_options(harness) if heading != "options"]
    return f"{own.rstrip()}\n\nlm_eval's options:\n{written(groups, width)}\n\n{EXAMPLES}"
