"""Interprets dataset indices as Grain does, with endless epochs in both directions.

```text
five elements      index   -1   0   4   5   11
                   epoch   -1   0   0   1    2
                position    4   0   4   0    1
```
"""

import operator
from typing import Any, SupportsIndex

import grain

from windrow.admission import is_endless


def split_index(index: SupportsIndex, length: int, name: str) -> tuple[int, int]:
    """The epoch of ``index`` and the position in it, for a dataset ``name`` of ``length`` elements."""
    if length == 0:
        raise IndexError(f"index {index} is out of range: {name} is empty; give it a dataset with elements")
    return divmod(operator.index(index), length)


def admit_dataset(dataset: Any, name: str, *, finite: bool = True) -> grain.MapDataset:
    """Returns ``dataset`` if ``name`` can wrap it; otherwise raises an error."""
    if not isinstance(dataset, grain.MapDataset):
        raise TypeError(
            f"dataset must be a grain.MapDataset, not {type(dataset).__name__}; "
            "wrap a sequence with grain.MapDataset.source(sequence)"
        )
    if finite and is_endless(dataset):
        raise ValueError(f"dataset is infinite; put {name} before .repeat(), not after it")
    return dataset
