"""Parameters of tests that only ``make test-exhaustive`` runs."""

import pytest


def exhaustive(*values, id=None):
    """A parameter set that only ``make test-exhaustive`` runs."""
    return pytest.param(*values, marks=pytest.mark.exhaustive, id=id)


def quick(names, among):
    """The names as parameters; those that are not ``among`` the quick ones are exhaustive."""
    return [name if name in among else exhaustive(name) for name in names]
