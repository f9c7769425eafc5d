"""A MinIO that somebody else started: used as it is, and never ended or paused by us."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Never

import pytest

from backends.s3 import S3Server
from backends.server import CannotStart


class GivenMinIO(S3Server):
    """The one at `url`, for the user of the environment."""

    name = "minio"
    ready_path = "/minio/health/ready"

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(directory)
        self._url = url.rstrip("/")

    @property
    def endpoint(self) -> str:
        return self._url

    def install(self) -> None:
        """Nothing."""

    def command(self) -> Sequence[str]:
        raise CannotStart(f"{self.name} is given; it isn't ours to start")

    def start(self) -> None:
        if not self.ready():
            raise CannotStart(f"{self.name} does not answer at {self._url}")

    def stop(self) -> None:
        """Nothing."""

    def kill(self) -> None:
        """Nothing."""

    def pause(self) -> Never:
        pytest.skip(f"{self.name} is given by IMAGEFLOW_BACKENDS_S3_URL: it isn't ours to pause")
