"""The real servers for tests: one of each for a session that asks for it, ended with it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from backends.container import ContainedMinIO
from backends.given import GivenS3
from backends.minio import MinIO
from backends.running import PULL_SECONDS, running
from backends.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from backends.seaweedfs import SeaweedFS
from imageflow_common.store_s3_client import Credentials, S3Config

_buckets = itertools.count()


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The one that the environment names, else the session's own."""
    folder = tmp_path_factory.mktemp("minio")
    if os.environ.get(GivenS3.variable):
        yield from running(GivenS3(folder))
    else:
        yield from running(MinIO(folder), contained=ContainedMinIO(folder, pull_seconds=PULL_SECONDS))


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    yield from running(SeaweedFS(tmp_path_factory.mktemp("seaweedfs")))


def own_bucket(server: S3Server) -> S3Config:
    """A bucket that nobody else has, to be made by who connects."""
    return S3Config(
        bucket=f"test-{os.getpid()}-{next(_buckets)}",
        endpoint=server.endpoint,
        credentials=Credentials(ACCESS_KEY, SECRET_KEY),
        ca_file=server.ca_file,
        create_bucket=True,
    )
