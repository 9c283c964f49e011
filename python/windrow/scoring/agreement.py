"""Checks that every host makes the same call, before any of them runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from windrow.sharding import RowSharding, check_agreement
from windrow.tokens import Tokenizer


def check_same_call(
    requests: Sequence[Any], tokenizer: Tokenizer, rows: RowSharding, arguments: Mapping[str, Any]
) -> None:
    """Raises the same error on every host if hosts call a function with different arguments.

    Without this check, hosts with different plans would wait for each other forever. If all devices belong to
    this process, nothing is compared.

    Args:
        requests: The requests, compared as ``str``.
        tokenizer: Encodes them.
        rows: How rows are split over devices.
        arguments: Everything else that affects the run, by name; compared as ``str``.

    Raises:
        HostsDifferError: Names the argument or the request that differs.
    """
    if rows.is_local:
        return
    given = {name: str(value) for name, value in arguments.items()}
    where = f"{rows.sharding.mesh.shape} {rows.sharding.spec}"
    check_agreement(requests, {"tokenizer": tokenizer.fingerprint, "sharding": where, **given})
