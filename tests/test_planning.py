"""Each planning function's docstring example, as written."""

import doctest

import numpy as np
import pytest

from windrow import planning


@pytest.mark.parametrize("name", planning.__all__)
def test_docstring_example(name):
    test = doctest.DocTestParser().get_doctest(
        getattr(planning, name).__doc__, {"np": np, **vars(planning)}, name, None, 0
    )
    assert test.examples, f"{name} shows no example"
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0
