import numpy as np
from numpy.typing import NDArray

def length_order(lengths: NDArray[np.int32], descending: bool = True) -> NDArray[np.int64]: ...
