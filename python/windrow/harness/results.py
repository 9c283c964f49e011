"""The results of one call: saved ones first, then each as soon as it is computed."""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from lm_eval.api.model import CacheHook

from windrow.fingerprint import Fingerprint
from windrow.harness.keeping import Keeper
from windrow.harness.requests import Requests

Result = TypeVar("Result")


class Results(Generic[Result]):
    """Results in request order, which are also saved on disk and passed to lm_eval's cache.

    Args:
        asked: The requests.
        unknown: The result to return for a request without a result.
        keeper: Saves results, and has those of an earlier run.
        fingerprint: Returns everything that affects results.
        cache_hook: lm_eval's cache.

    Attributes:
        all: ``request -> result``, a list.
    """

    def __init__(
        self,
        asked: Requests,
        unknown: Result,
        keeper: Keeper,
        fingerprint: Callable[[], Fingerprint],
        cache_hook: CacheHook,
    ) -> None:
        self._asked, self._cache_hook = asked, cache_hook
        self._kept = keeper.call(asked.kind, asked.arguments, fingerprint)
        self.all = [self._kept.known.get(request, unknown) for request in range(len(asked))]

    @property
    def known(self) -> Collection[int]:
        """The requests whose results come from an earlier run."""
        return self._kept.known

    def add(self, request: int, result: Result) -> None:
        """Records the result of a request."""
        self.all[request] = result
        self._kept.add(request, result)
        self._cache_hook.add_partial(self._asked.kind, self._asked.arguments[request], result)
