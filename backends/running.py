"""A real server for as long as a fixture lasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from backends.container import start_either
from backends.server import CannotStart, Server

S = TypeVar("S", bound=Server)
PULL_SECONDS = 60.0
"""A test has 120 s with its fixtures. `python -m backends install` has more."""


def running(server: S, *, contained: S | None = None) -> Iterator[S]:
    """Starts it, or `contained` where an engine can, and ends it behind whoever asked; the test is skipped where there
    is none to be had."""
    try:
        started = start_either(contained, server) if contained else server
        started.start()
    except CannotStart as exc:
        pytest.skip(f"needs {server.name}: {exc}")
    try:
        yield started
    finally:
        for each in (server, contained):
            if each:
                each.discard()
