"""Servers that somebody else started: used as they are, and never ended or paused by us."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Never

import pytest

from backends.kafka import KafkaServer
from backends.minio import MinIO
from backends.s3 import S3Server
from backends.server import CannotStart, Server


class Given(Server):
    """One that the environment names. `variable` is by what, and `place` where it is."""

    ports_needed = ()
    variable: str

    @property
    def place(self) -> str:
        return os.environ[self.variable].rstrip("/")

    def runs_as(self) -> str:
        return f"given by {self.variable}"

    def install(self) -> None:
        """Nothing."""

    def command(self) -> Sequence[str]:
        raise CannotStart(f"{self.name} is given; it isn't ours to start")

    def start(self) -> None:
        if not self.ready():
            raise CannotStart(f"{self.name} does not answer at {self.place}")

    def stop(self) -> None:
        """Nothing."""

    def kill(self) -> None:
        """Nothing."""

    def pause(self) -> Never:
        pytest.skip(f"{self.name} is given by {self.variable}: it isn't ours to pause")


class GivenS3(Given, S3Server):
    """For the user of the environment."""

    name = MinIO.name
    variable = "IMAGEFLOW_BACKENDS_S3_URL"
    ready_path = "/"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ports = {"main": urllib.parse.urlsplit(self.place).port or 80}

    @property
    def endpoint(self) -> str:
        return self.place

    def ready(self) -> bool:
        """Any answer will do; most refuse who does not say who they are."""
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


class GivenKafka(Given):
    """Reached without a password."""

    name = KafkaServer.name
    variable = "IMAGEFLOW_BACKENDS_KAFKA_SERVERS"

    def ready(self) -> bool:
        host, _, port = self.place.split(",")[0].rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError):  # no port
            return False
        return True

    def settings(self) -> Mapping[str, str]:
        return {"IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": self.place, "IMAGEFLOW_KAFKA_CREATE_TOPICS": "true"}
