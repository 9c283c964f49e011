"""Command-line options with which the processes of a script find each other."""

import argparse

from windrow.sharding.launch import Launch


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of this process; ``launch.start()`` joins the others."""
    parser.add_argument("--coordinator")
    parser.add_argument("--process-count", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--heartbeat-timeout", type=int, default=60)
    given = parser.parse_args()
    given.launch = Launch(given.coordinator, given.process_count, given.process_id, given.heartbeat_timeout)
    return given
