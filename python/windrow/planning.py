"""The planning steps, as functions that take and return NumPy arrays.

Nothing is copied or cast silently. Each function releases the GIL while it works, and
raises errors that name the argument, the offending index and the value.
"""

from windrow._rust import Plan as Plan
from windrow._rust import bucket_ids as bucket_ids
from windrow._rust import choose_lengths as choose_lengths
from windrow._rust import group_identical as group_identical
from windrow._rust import invert_order as invert_order
from windrow._rust import length_order as length_order
from windrow._rust import multihost_remap as multihost_remap
from windrow._rust import pack_rows as pack_rows
from windrow._rust import pad_rows as pad_rows
from windrow._rust import prefix_order as prefix_order
from windrow._rust import prefix_stems as prefix_stems
from windrow._rust import round_up as round_up
from windrow._rust import token_lengths as token_lengths
from windrow._rust import tree_rows as tree_rows

__all__ = [
    "Plan",
    "bucket_ids",
    "choose_lengths",
    "group_identical",
    "invert_order",
    "length_order",
    "multihost_remap",
    "pack_rows",
    "pad_rows",
    "prefix_order",
    "prefix_stems",
    "round_up",
    "token_lengths",
    "tree_rows",
]
