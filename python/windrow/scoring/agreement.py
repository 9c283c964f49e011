"""Checks that every host makes the same call, before any of them runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from windrow.sharding import RowSharding, check_agreement
from windrow.tokens import Segments, Tokenizer


def check_same_call(
    call: str, requests: Sequence[Any], tokenizer: Tokenizer, rows: RowSharding, arguments: Mapping[str, Any]
) -> None:
    """Raises the same error on every host if hosts call a function with different arguments.

    Without this check, hosts with different plans would wait for each other forever. If all devices belong to
    this process, nothing is compared.

    Args:
        call: The name of the function.
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
    settings = {"tokenizer": tokenizer.fingerprint, "sharding": rows.description, **given}
    check_agreement(requests, settings, call=call)


def check_same_tokens(call: str, segments: Segments, rows: RowSharding) -> None:
    """Raises the same error on every host if hosts encode their requests differently, or skip other requests.

    Args:
        call: The name of the function.
        segments: The encoded requests.
        rows: How rows are split over devices.

    Raises:
        HostsDifferError: The segments differ.
    """
    if not rows.is_local:
        check_agreement([], {"encoded requests": segments.fingerprint}, call=call)
