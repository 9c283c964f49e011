"""Where rows live: hosts' rows, and the global arrays they become."""

from jax.sharding import Mesh as Mesh

from windrow.sharding.loader import HostShare as HostShare
from windrow.sharding.loader import MultiHostDataLoadIterator as MultiHostDataLoadIterator
from windrow.sharding.rows import RowSharding as RowSharding
from windrow.sharding.rows import place as place

__all__ = ["HostShare", "Mesh", "MultiHostDataLoadIterator", "RowSharding", "place"]
