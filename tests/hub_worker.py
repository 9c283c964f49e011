"""Fetches checkpoints and tokenizers from the Hub set in the environment, and prints the results."""

import json
import sys
from pathlib import Path

from windrow.models.hub import fetch
from windrow.tokens import load_tokenizer


def main():
    found = []
    for call in json.loads(sys.argv[1]):
        try:
            if "tokenizer" in call:
                found.append(load_tokenizer(call["tokenizer"]).decode([5, 6]))
                continue
            folder = fetch(**call)
            found.append(
                sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
            )
        except ValueError as error:
            found.append(str(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
