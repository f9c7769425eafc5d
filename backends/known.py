"""The servers there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from backends.server import Server

SERVERS: Mapping[str, type[Server]] = {}
DEFAULT: tuple[str, ...] = ()  # what `up` starts when no name is given
