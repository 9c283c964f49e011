"""Planning, step by step: every function takes and returns NumPy arrays.

Nothing here copies or casts silently; each function releases the GIL while it
works, and refuses bad input by naming the argument, the offending index and the
value.
"""

from windrow._rust import Plan as Plan
from windrow._rust import length_order as length_order

__all__ = ["Plan", "length_order"]
