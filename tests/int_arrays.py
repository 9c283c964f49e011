"""Short integer arrays, and copies of arrays that are read-only, strided or misaligned."""

import numpy as np


def i32(*values):
    return np.array(values, np.int32)


def i64(*values):
    return np.array(values, np.int64)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    return np.repeat(array, 2)[::2]


def misaligned(array):
    return np.frombuffer(b"-" + array.tobytes(), array.dtype, offset=1)
