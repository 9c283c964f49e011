"""Model families as pure functions, loaded from directories in the Hugging Face format.

Names are imported when they are first used, so a configuration can be read without importing JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windrow.models.loading import config_max_length as config_max_length
    from windrow.models.loading import load as load

__all__ = ["config_max_length", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(
            f"module 'windrow.models' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(import_module("windrow.models.loading"), name)
