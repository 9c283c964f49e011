"""Where rows live: hosts' rows, and the global arrays they become."""

from jax.sharding import Mesh as Mesh

from windrow.sharding.agreement import HostsDifferError as HostsDifferError
from windrow.sharding.agreement import check_agreement as check_agreement
from windrow.sharding.agreement import gather_from_hosts as gather_from_hosts
from windrow.sharding.agreement import host_count as host_count
from windrow.sharding.agreement import is_first_host as is_first_host
from windrow.sharding.agreement import share_from_first_host as share_from_first_host
from windrow.sharding.launch import leaving_at_once as leaving_at_once
from windrow.sharding.loader import HostShare as HostShare
from windrow.sharding.loader import MultiHostDataLoadIterator as MultiHostDataLoadIterator
from windrow.sharding.memory import DeviceMemory as DeviceMemory
from windrow.sharding.rows import RowSharding as RowSharding
from windrow.sharding.rows import check_alive as check_alive
from windrow.sharding.rows import place as place

__all__ = [
    "DeviceMemory",
    "HostShare",
    "HostsDifferError",
    "Mesh",
    "MultiHostDataLoadIterator",
    "RowSharding",
    "check_agreement",
    "check_alive",
    "gather_from_hosts",
    "host_count",
    "is_first_host",
    "leaving_at_once",
    "place",
    "share_from_first_host",
]
