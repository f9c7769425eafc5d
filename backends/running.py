"""A real server for as long as a fixture lasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from backends.server import CannotStart, Server

S = TypeVar("S", bound=Server)


def running(server: S) -> Iterator[S]:
    """Starts it, and ends it behind whoever asked; the test is skipped where there is none to be had."""
    try:
        server.start()
    except CannotStart as exc:
        pytest.skip(f"needs {server.name}: {exc}")
    try:
        yield server
    finally:
        server.kill()
