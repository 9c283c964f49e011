"""Planning, step by step: every function takes and returns NumPy arrays.

Nothing here copies or casts silently; each function releases the GIL while it
works, and refuses bad input by naming the argument, the offending index and the
value.
"""

from windrow._rust import Plan as Plan
from windrow._rust import length_order as length_order
from windrow._rust import multihost_remap as multihost_remap
from windrow._rust import pack_rows as pack_rows
from windrow._rust import pad_rows as pad_rows

__all__ = ["Plan", "length_order", "multihost_remap", "pack_rows", "pad_rows"]
