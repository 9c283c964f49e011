"""The error for requests that cannot run, with a reason for each."""

from collections.abc import Callable, Mapping

LISTED = 10
"""The maximum number of bad requests that an error lists."""

REMEDY = 'Fix these requests, or skip them with on_bad_request="skip".'


class BadRequestsError(ValueError):
    """Requests that cannot run.

    Attributes:
        reasons: The reason for each, by request index.

    >>> print(BadRequestsError({3: "the continuation is empty"}))
    request 3: the continuation is empty
    Fix these requests, or skip them with on_bad_request="skip".
    """

    def __init__(
        self,
        reasons: Mapping[int, str],
        remedy: str = REMEDY,
        name: Callable[[int], str] = "request {}".format,
    ) -> None:
        self.reasons, self._remedy = dict(reasons), remedy
        lines = [f"{name(request)}: {reason}" for request, reason in list(self.reasons.items())[:LISTED]]
        if len(self.reasons) > LISTED:
            lines.append(f"and {len(self.reasons) - LISTED} more")
        super().__init__("\n".join([*lines, remedy]))

    def named(self, name: Callable[[int], str]) -> "BadRequestsError":
        """The same error, with the names of requests given by ``name``."""
        return BadRequestsError(self.reasons, self._remedy, name)
