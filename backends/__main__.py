"""`python -m backends [up|down|status|install] [NAME…]`: the real servers beside the system, on loopback.

`up` prints `export NAME='value'` lines for a shell to evaluate, and nothing else, on stdout.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from backends.cache import cache_directory
from backends.known import DEFAULT, SERVERS, TESTED, given, install, ours, start
from backends.server import CannotStart


def main() -> int:
    asked = _arguments()
    try:
        _ACTIONS[asked.action](asked.names or _UNNAMED[asked.action])
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


def _directory(name: str) -> Path:
    return cache_directory() / "run" / name


def _up(names: Sequence[str]) -> None:
    for name in names:
        print(f"{name}: starting", file=sys.stderr)
        server = start(name, _directory(name))
        print(f"{name}: ready, {server.runs_as()}", file=sys.stderr)
        for variable, value in server.settings().items():
            print(f"export {variable}={shlex.quote(value)}")


def _down(names: Sequence[str]) -> None:
    """All that can be ended; then what could not is said."""
    faults: list[str] = []
    for name in names:
        for server in ours(name, _directory(name)):
            try:
                server.stop()
            except CannotStart as fault:
                faults.append(f"{name}: {fault}")
    if faults:
        raise CannotStart("\n".join(faults))


def _status(names: Sequence[str]) -> None:
    for name in names:
        known = [
            server.runs_as() for server in (given(name, _directory(name)), *ours(name, _directory(name))) if server
        ]
        print(f"{name}: {'; '.join(filter(None, known)) or 'not running'}")


def _install(names: Sequence[str]) -> None:
    """What cannot be had is said; the tests that need it say so too."""
    for name in names:
        try:
            install(name, _directory(name))
        except CannotStart as fault:
            print(f"{name} cannot be had: {fault}", file=sys.stderr)
        else:
            print(f"{name}: installed", file=sys.stderr)


_ACTIONS = {"up": _up, "down": _down, "status": _status, "install": _install}
_UNNAMED = {"up": DEFAULT, "down": tuple(SERVERS), "status": tuple(SERVERS), "install": TESTED}

if __name__ == "__main__":
    sys.exit(main())
