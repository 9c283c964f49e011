"""Turns each host's rows into global arrays, and checks that hosts agree."""

from jax.sharding import Mesh as Mesh

from windrow.sharding.agreement import HostsDifferError as HostsDifferError
from windrow.sharding.agreement import check_agreement as check_agreement
from windrow.sharding.agreement import check_first_host as check_first_host
from windrow.sharding.agreement import gather_from_hosts as gather_from_hosts
from windrow.sharding.agreement import host_count as host_count
from windrow.sharding.agreement import host_number as host_number
from windrow.sharding.agreement import is_first_host as is_first_host
from windrow.sharding.agreement import share_from_first_host as share_from_first_host
from windrow.sharding.alive import check_alive as check_alive
from windrow.sharding.alive import name_of as name_of
from windrow.sharding.launch import leaving_at_once as leaving_at_once
from windrow.sharding.loader import HostShare as HostShare
from windrow.sharding.loader import MultiHostDataLoadIterator as MultiHostDataLoadIterator
from windrow.sharding.parameters import put_like as put_like
from windrow.sharding.parameters import put_params as put_params
from windrow.sharding.placing import from_host as from_host
from windrow.sharding.placing import place as place
from windrow.sharding.placing import start_devices as start_devices
from windrow.sharding.rows import RowSharding as RowSharding
from windrow.sharding.rows import own_mesh as own_mesh

__all__ = [
    "HostShare",
    "HostsDifferError",
    "Mesh",
    "MultiHostDataLoadIterator",
    "RowSharding",
    "check_agreement",
    "check_alive",
    "check_first_host",
    "from_host",
    "gather_from_hosts",
    "host_count",
    "host_number",
    "is_first_host",
    "leaving_at_once",
    "name_of",
    "own_mesh",
    "place",
    "put_like",
    "put_params",
    "share_from_first_host",
    "start_devices",
]
