"""The same requests on every host, or an error on all of them."""

import json
from collections.abc import Mapping

from windrow.harness.requests import Requests
from windrow.sharding import check_agreement, host_count, share_from_first_host


def agreed(requests: Requests, settings: Mapping[str, str], from_first_host: bool) -> Requests:
    """The requests, the same on every host; work that is not the same on all is refused.

    Every host must call it.

    Args:
        requests: What this host was given.
        settings: What else decides the run, by name.
        from_first_host: Whether process 0's requests replace those of the other hosts.

    Raises:
        HostsDifferError: Names the setting or the request that differs.
    """
    settings = {"request type": requests.kind, **settings}
    if not from_first_host:
        check_agreement(requests.arguments, settings, requests.name)
        return requests
    check_agreement([], settings)
    if host_count() == 1:
        return requests
    told = json.dumps([requests.arguments, requests.sources]).encode()
    arguments, sources = json.loads(share_from_first_host(told))
    return Requests(requests.kind, [tuple(each) for each in arguments], [tuple(each) for each in sources])
