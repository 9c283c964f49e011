"""Evaluate JAX language models on lm-evaluation-harness tasks.

Names and modules are imported when they are first used, so ``import windrow`` is fast and does not
import JAX, Grain or lm_eval.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windrow.corpus import score_stream as score_stream
    from windrow.datasets import evaluation_dataset as evaluation_dataset
    from windrow.datasets import evaluation_stream as evaluation_stream
    from windrow.generation import generate as generate
    from windrow.harness import JaxLM as JaxLM
    from windrow.model import LanguageModel as LanguageModel
    from windrow.model import visible as visible
    from windrow.planning import Plan as Plan
    from windrow.scoring import check_model as check_model
    from windrow.scoring import score as score
    from windrow.sizing.policy import BatchPolicy as BatchPolicy

__version__ = version("windrow")

_MODULES = {
    "BatchPolicy": "windrow.sizing.policy",
    "JaxLM": "windrow.harness",
    "LanguageModel": "windrow.model",
    "Plan": "windrow.planning",
    "check_model": "windrow.scoring",
    "evaluation_dataset": "windrow.datasets",
    "evaluation_stream": "windrow.datasets",
    "generate": "windrow.generation",
    "score": "windrow.scoring",
    "score_stream": "windrow.corpus",
    "visible": "windrow.model",
}

_SUBMODULES = {
    "adapters",
    "batch",
    "corpus",
    "datasets",
    "generation",
    "lmeval_pipeline",
    "models",
    "planning",
    "scoring",
    "sharding",
    "tokens",
    "transforms",
}

__all__ = [
    "BatchPolicy",
    "JaxLM",
    "LanguageModel",
    "Plan",
    "__version__",
    "check_model",
    "evaluation_dataset",
    "evaluation_stream",
    "generate",
    "score",
    "score_stream",
    "visible",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"windrow.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'windrow' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
