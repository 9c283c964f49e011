"""Text generation: continues each prompt up to a stop string, an end token or a maximum length."""

from windrow.generation.api import Generations as Generations
from windrow.generation.api import generate as generate
from windrow.generation.defaults import GenerationDefaults as GenerationDefaults
from windrow.generation.defaults import read_defaults as read_defaults
from windrow.generation.endings import NOT_NUMBERS as NOT_NUMBERS
from windrow.generation.generator import Generated as Generated
from windrow.generation.generator import Generator as Generator
from windrow.generation.generator import random_keys as random_keys
from windrow.generation.rules import Rules as Rules
from windrow.generation.settings import Settings as Settings
from windrow.generation.settings import read_settings as read_settings

__all__ = [
    "NOT_NUMBERS",
    "Generated",
    "GenerationDefaults",
    "Generations",
    "Generator",
    "Rules",
    "Settings",
    "generate",
    "random_keys",
    "read_defaults",
    "read_settings",
]
