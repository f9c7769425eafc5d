"""`python -m backends [up|down|status|install] [NAME…]`: the real servers beside the system, on loopback.

`up` prints `export NAME='value'` lines for a shell to evaluate, and nothing else, on stdout.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from backends.cache import cache_directory
from backends.known import DEFAULT, SERVERS, TESTED
from backends.server import CannotStart, Server


def main() -> int:
    asked = _arguments()
    servers = [_server(name) for name in asked.names or _UNNAMED[asked.action]]
    try:
        _ACTIONS[asked.action](servers)
    except CannotStart as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m backends", description=__doc__)
    parser.add_argument("action", nargs="?", default="up", choices=list(_ACTIONS))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SERVERS))
    asked = parser.parse_args()
    unknown = set(asked.names) - set(SERVERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SERVERS)}")
    return asked


def _server(name: str) -> Server:
    return SERVERS[name](cache_directory() / "run" / name)


def _up(servers: list[Server]) -> None:
    for server in servers:
        print(f"{server.name}: starting", file=sys.stderr)
        server.start()
        print(f"{server.name}: ready, state and log in {server.directory}", file=sys.stderr)
        for name, value in server.settings().items():
            print(f"export {name}={shlex.quote(value)}")


def _down(servers: list[Server]) -> None:
    for server in servers:
        server.stop()


def _status(servers: list[Server]) -> None:
    for server in servers:
        process = server.process()
        print(f"{server.name}: {'not running' if process is None else f'process {process.pid}'}")


def _install(servers: list[Server]) -> None:
    """What cannot be had is said; the tests that need it say so too."""
    for server in servers:
        try:
            server.install()
        except CannotStart as fault:
            print(f"{server.name} cannot be had: {fault}", file=sys.stderr)
        else:
            print(f"{server.name}: installed", file=sys.stderr)


_ACTIONS = {"up": _up, "down": _down, "status": _status, "install": _install}
_UNNAMED = {"up": DEFAULT, "down": tuple(SERVERS), "status": tuple(SERVERS), "install": TESTED}

if __name__ == "__main__":
    sys.exit(main())
