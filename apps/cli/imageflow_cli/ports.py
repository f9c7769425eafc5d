"""Ports of this machine."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_FIRST, _LAST = 20_000, 32_000
"""Below the range that the kernel gives to outgoing connections, which might take one before its owner does."""
_TRIES = 1_000


class PortTaken(Exception):
    """Something else listens on a port, or is about to."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken; choose another with --port, or 0 for any")


@contextmanager
def claimed(host: str, port: int) -> Iterator[None]:
    """Keeps a port for a server that is yet to start: meanwhile whoever else claims it is refused. Raises PortTaken,
    also when something listens there already. Between users too, but on Linux only; elsewhere who is second finds out
    when its server cannot listen."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            if sys.platform == "linux":
                claim.bind(f"\0imageflow-port-{host}:{port}")  # a name that ends with this process, however it ends
        except OSError as exc:
            raise PortTaken(port) from exc
        if not is_free(host, port):
            raise PortTaken(port)
        yield


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
