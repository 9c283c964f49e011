"""lm_eval's requests of one type: their arguments, and how errors name them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance

from windrow.bad_requests import BadRequestsError


@dataclass(frozen=True)
class Requests:
    """Requests of one type.

    Attributes:
        kind: Their type, such as ``"loglikelihood"``.
        arguments: Each one's ``args``.
        sources: Each one's task and document number; empty strings if lm_eval gives none.
    """

    kind: str
    arguments: list[Any]
    sources: list[tuple[str, str]]

    @classmethod
    def of(cls, kind: str, instances: Sequence[Instance]) -> "Requests":
        """The requests of lm_eval's instances.

        >>> instance = Instance("loglikelihood", {}, ("a", " b"), 0, ("arc_easy", 17, 1))
        >>> Requests.of("loglikelihood", [instance]).name(0)
        'request 0 (task arc_easy, document 17)'
        """
        return cls(kind, [instance.args for instance in instances], [_source(each) for each in instances])

    def __len__(self) -> int:
        return len(self.arguments)

    def name(self, request: int) -> str:
        """How errors name a request."""
        source = self.sources[request] if request < len(self) else ("", "")
        parts = [f"{word} {value}" for word, value in zip(("task", "document"), source, strict=True) if value]
        return f"request {request} ({', '.join(parts)})" if parts else f"request {request}"

    @property
    def tasks(self) -> list[str]:
        """Each request's task; empty if lm_eval gives none."""
        return [task for task, _ in self.sources]

    @contextmanager
    def named(self) -> Iterator[None]:
        """Adds the task and document to errors about requests that are raised in the block."""
        try:
            yield
        except BadRequestsError as error:
            raise error.named(self.name) from error.__cause__


def _source(instance: Instance) -> tuple[str, str]:
    task, document = ("" if each is None else str(each) for each in (instance.task_name, instance.doc_id))
    return task, document
