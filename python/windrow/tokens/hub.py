"""Downloads files from the Hugging Face Hub, with errors that say what to do."""

from pathlib import Path


def download(
    what: str,
    name: str,
    patterns: list[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    begun: bool = False,
) -> Path:
    """Downloads the files of a repository that match, or finds them in the cache.

    Args:
        what: What is loaded, for the error, such as ``"tokenizer 'gpt2'"``.
        name: The repository, ``"organization/model"``.
        patterns: The files, as names or patterns.
        revision: A branch, a tag or a commit; the main branch by default.
        token: An access token; by default, ``HF_TOKEN`` or the token of ``hf auth login``.
        cache_dir: The cache; by default, that of ``huggingface_hub``.
        begun: Whether other files of the repository have been found.

    Returns:
        The repository's folder in the cache.

    Raises:
        ValueError: The name or revision does not exist, the repository is gated, or there is no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                name, revision=revision, token=token, cache_dir=cache_dir, allow_patterns=patterns
            )
        )
    except GatedRepoError:
        problem = "is gated: accept its terms on the Hub, then set HF_TOKEN or run 'hf auth login'"
    except RepositoryNotFoundError:
        problem = "is not on the Hub, or is private: check the name, or set HF_TOKEN"
    except RevisionNotFoundError:
        problem = f"has no revision {revision!r} on the Hub"
    except LocalEntryNotFoundError:
        found = "is only half downloaded" if begun else "is not in the cache"
        problem = f"{found}, and the Hub cannot be reached: no network, or HF_HUB_OFFLINE is set"
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        problem = f"could not be fetched from the Hub: {str(error).splitlines()[0]}"
    raise ValueError(f"{what} {problem}")
