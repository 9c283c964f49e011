"""Checks that every host has the same requests; if not, raises an error on all of them."""

import json
from collections.abc import Mapping

from windrow.harness.requests import Requests
from windrow.sharding import check_agreement, host_count, share_from_first_host


def agreed(requests: Requests, settings: Mapping[str, str], from_first_host: bool) -> Requests:
    """The requests, checked to be the same on every host. Every host must call it.

    Args:
        requests: The requests on this host.
        settings: Everything else that affects the run, by name.
        from_first_host: Whether process 0's requests replace those of the other hosts.

    Raises:
        HostsDifferError: Names the setting or the request that differs.
    """
    settings = {"request type": requests.kind, **settings}
    if not from_first_host:
        check_agreement(requests.arguments, settings, requests.name, call="JaxLM")
        return requests
    check_agreement([], settings, call="JaxLM")
    if host_count() == 1:
        return requests
    own = json.dumps([requests.arguments, requests.sources]).encode()
    arguments, sources = json.loads(share_from_first_host(own))
    return Requests(requests.kind, [tuple(each) for each in arguments], [tuple(each) for each in sources])
