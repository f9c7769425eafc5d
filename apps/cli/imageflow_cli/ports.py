"""Ports of this machine."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

_FIRST, _LAST = 20_000, 32_000
"""Below the range that the kernel gives to outgoing connections, which might take one before its owner does."""
_TRIES = 1_000


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Different ports that nothing listens on. Raises OSError when there are not so many."""
    with ExitStack() as held:
        ports: list[int] = []
        for _ in range(_TRIES):
            if len(ports) == count:
                return ports
            port = random.randint(_FIRST, _LAST)  # noqa: S311  # nothing secret
            try:
                held.enter_context(_bind(host, port))
            except OSError:
                continue
            ports.append(port)
        raise OSError(f"no {count} free ports between {_FIRST} and {_LAST}")


def _bind(host: str, port: int) -> socket.socket:
    """Without SO_REUSEPORT, which would share a port that is in use. Listening finds what binding does not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(1)
    except OSError:
        bound.close()
        raise
    return bound
