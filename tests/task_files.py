"""Small task files in a separate folder."""

import json
from pathlib import Path

CHOICES = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: ["a", "b"]
doc_to_target: 0
metadata: {{version: 1}}
"""

TEXTS = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "a"
generation_kwargs: {{until: ["z"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""


def write_tasks(folder: Path, documents: int = 12) -> Path:
    """Tasks ``choices`` and ``texts``, groups ``own`` (both) and ``mixed`` (with one of lm_eval's own)."""
    tasks = folder / "tasks"
    tasks.mkdir()
    data = folder / "texts.jsonl"
    lines = [json.dumps({"text": "x" * (number % 50 + 1) + str(number)}) for number in range(documents)]
    data.write_text("\n".join(lines))
    (tasks / "choices.yaml").write_text(CHOICES.format(name="choices", data=data))
    (tasks / "texts.yaml").write_text(TEXTS.format(name="texts", data=data))
    (tasks / "own.yaml").write_text("group: own\ntask: [choices, texts]\n")
    (tasks / "nested.yaml").write_text("group: nested\ntask: [own]\n")
    (tasks / "mixed.yaml").write_text("group: mixed\ntask: [choices, arc_easy]\n")
    return tasks
