"""The examples in the docstrings of the Python package."""

import doctest
from importlib import import_module

import pytest

MODULES = [
    "windrow.admission",
    "windrow.batch",
    "windrow.datasets.padding",
    "windrow.datasets.planned",
    "windrow.datasets.remapping",
    "windrow.datasets.sorting",
    "windrow.scoring.mistakes",
    "windrow.sharding.loader",
    "windrow.sharding.rows",
    "windrow.transforms",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
