"""The adapter to lm-evaluation-harness: importing it registers the model type ``windrow``."""

from windrow.harness.lm import JaxLM as JaxLM

__all__ = ["JaxLM"]
