"""The results of :func:`windrow.check_model`, as a small table."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from math import inf, isfinite, isnan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["passed", "failed", "not offered", "not tried"]


@dataclass(frozen=True)
class Gap:
    """Two log-probabilities that must be equal, in nats.

    >>> Gap.worst(np.array([-1.0, -2.0]), np.array([-1.0, -2.5]), 1e-3)
    Gap(one=-2.0, other=-2.5, allowed=0.001)
    """

    one: float
    other: float
    allowed: float

    @classmethod
    def worst(cls, one: NDArray[np.floating], other: NDArray[np.floating], allowed: float) -> "Gap":
        """The pair of values that differs most, in two arrays of the same shape.

        Args:
            one: Log-probabilities.
            other: The expected log-probabilities.
            allowed: The relative difference that rounding may cause.
        """
        if not one.size:
            return cls(0.0, 0.0, allowed)
        one, other = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            sizes = np.where(same, 0.0, np.nan_to_num(np.abs(one - other), nan=np.inf))
        worst = int(np.argmax(sizes / (1 + np.where(np.isfinite(other), np.abs(other), 0))))
        return cls(float(one[worst]), float(other[worst]), allowed)

    @property
    def size(self) -> float:
        """The absolute difference."""
        if self.one == self.other or (isnan(self.one) and isnan(self.other)):
            return 0.0
        size = abs(self.one - self.other)
        return inf if isnan(size) else size

    @property
    def excess(self) -> float:
        """The difference as a multiple of what rounding may cause."""
        scale = 1 + abs(self.other) if isfinite(self.other) else 1.0
        return self.size / (self.allowed * scale)

    @property
    def is_sound(self) -> bool:
        """Whether they agree up to rounding."""
        return self.excess <= 1


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked.
        status: ``"passed"``, ``"failed"``, ``"not offered"`` if the model lacks the functions, or
            ``"not tried"``.
        difference: The largest difference between two log-probabilities that must be equal, in nats;
            ``None`` if nothing was compared.
        message: What is wrong and what to do, or why the check did not run; empty if it passed.
        needed: Whether runs under the policy depend on this check.
    """

    name: str
    status: Status
    difference: float | None = None
    message: str = ""
    needed: bool = True

    @property
    def shown(self) -> tuple[str, str, str, str]:
        """The cells of its row in the table."""
        difference = "" if self.difference is None else f"{self.difference:.1e}"
        unused = " (this policy does not need it)" if self.status == "failed" and not self.needed else ""
        return self.name, self.status, difference, self.message + unused


HEADINGS = ("check", "result", "nats", "what to do")


@dataclass(frozen=True)
class ModelCheck:
    """The results of all checks; ``repr`` and notebooks show them as a table.

    Attributes:
        checks: In the order in which they ran.

    >>> found = ModelCheck((Check("causal", "passed", 1e-6), Check("tree rows", "not offered")))
    >>> found
    check_model: passed
    check      result       nats     what to do
    causal     passed       1.0e-06
    tree rows  not offered
    >>> found["causal"].status
    'passed'
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed that runs under the policy depend on."""
        return not any(check.needed for check in self.failed)

    @property
    def failed(self) -> tuple[Check, ...]:
        """All checks that failed, including those that the policy does not need."""
        return tuple(check for check in self.checks if check.status == "failed")

    def __iter__(self) -> Iterator[Check]:
        """The checks."""
        return iter(self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check of this name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(
            f"no check is named {name!r}; the checks are {', '.join(each.name for each in self.checks)}"
        )

    def __repr__(self) -> str:
        """One line per check."""
        rows = [HEADINGS, *(check.shown for check in self.checks)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ("  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows)
        return "\n".join([self._verdict, *lines])

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            shown = (f"<{tag} style='text-align: left'>{escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{''.join(shown)}</tr>"

        body = "".join(line(check.shown, "td") for check in self.checks)
        return f"<table><caption>{self._verdict}</caption>{line(HEADINGS, 'th')}{body}</table>"

    @property
    def _verdict(self) -> str:
        if not self.failed:
            return "check_model: passed"
        names = ", ".join(check.name for check in self.failed)
        return f"check_model: {'passed, but for' if self.passed else 'failed:'} {names}"
