"""Downloads checkpoints from the Hugging Face Hub.

Only configurations, tokenizers, chat templates and safetensors files are downloaded, never pickles or code.
The configuration comes first, so an unsupported model is rejected before its weights are downloaded. The
endpoint, cache, access token and offline mode are those of ``huggingface_hub``: ``HF_ENDPOINT``, ``HF_HOME``,
``HF_TOKEN`` and ``HF_HUB_OFFLINE``.
"""

import re
from pathlib import Path

from windrow.models.config import read_json
from windrow.models.loading import check_config
from windrow.tokens.hub import download

_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
_SMALL = (
    _CONFIG, "generation_config.json", _INDEX, "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "*.jinja",
)  # fmt: skip


def is_name(text: str) -> bool:
    """Whether this is a valid name on the Hub.

    >>> is_name("EleutherAI/pythia-160m"), is_name("/models/pythia"), is_name("./pythia")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


def fetch(
    name: str, *, revision: str | None = None, subfolder: str = "", token: str | bool | None = None
) -> Path:
    """Downloads a checkpoint, or finds it in the cache.

    Args:
        name: ``"organization/model"``.
        revision: A branch, a tag or a commit; the main branch by default.
        subfolder: The checkpoint's subdirectory in the repository.
        token: An access token; by default, ``HF_TOKEN`` or the token of ``hf auth login``.

    Returns:
        The folder with the checkpoint.

    Raises:
        ValueError: The name, revision or subfolder does not exist, the model is gated, has no safetensors
            weights or is of an unsupported type, or there is no network.
    """
    at = f"{subfolder.strip('/')}/" if subfolder else ""
    what = f"pretrained={name!r}"
    folder = download(what, name, [at + file for file in _SMALL], revision=revision, token=token) / at
    if not (folder / _CONFIG).is_file():
        raise ValueError(f"{what} has no {at}{_CONFIG} on the Hub; is it a transformers model?")
    check_config(folder)
    shards = (
        sorted(set(read_json(folder / _INDEX).get("weight_map", {}).values())) if _has_index(folder) else []
    )
    shards = shards or ["model.safetensors"]
    files = [at + file for file in shards]
    download(what, name, files, revision=revision, token=token, begun=True)
    missing = [file for file in shards if not (folder / file).is_file()]
    if missing == ["model.safetensors"]:
        raise ValueError(
            f"{what} has no safetensors weights here: neither model.safetensors nor {_INDEX}; "
            "pickled weights (pytorch_model.bin) are not read"
        )
    if missing:
        raise ValueError(f"{what} lacks {', '.join(missing)}, which {_INDEX} lists")
    return folder


def _has_index(folder: Path) -> bool:
    return (folder / _INDEX).is_file()
