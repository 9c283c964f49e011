"""Command-line options by which the processes of a script join."""

import argparse

from windrow.sharding.launch import Launch


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses this process's options; ``launch.start()`` then joins the others."""
    parser.add_argument("--coordinator")
    parser.add_argument("--process-count", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--heartbeat-timeout", type=int, default=60)
    given = parser.parse_args()
    given.launch = Launch(given.coordinator, given.process_count, given.process_id, given.heartbeat_timeout)
    return given
