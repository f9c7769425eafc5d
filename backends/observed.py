"""What the servers of observability share: their ports, which the configuration of one names to another."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from backends.server import Server, kept_ports
from imageflow_cli.observe.servers import Ports, Run


class ObservedServer(Server):
    """A server that finds the others: those that stand in one folder share `observe-ports.json` in it."""

    ports_needed = ()
    ready_path: str

    @abstractmethod
    def run(self) -> Run:
        """How it is run."""

    @abstractmethod
    def port(self) -> int:
        """Where it answers `ready_path`."""

    @property
    def places(self) -> Ports:
        return shared_ports(self.directory.parent)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port()}"

    def command(self) -> Sequence[str]:
        return self.run().command

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self.run().environment}

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self.ready_path, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def shared_ports(folder: Path) -> Ports:
    """The ports of the servers in one folder, taken once."""
    return Ports(**kept_ports(folder / "observe-ports.json", [field.name for field in fields(Ports)]))
