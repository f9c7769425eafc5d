"""The real servers for tests: one of each for a session that asks for it, ended with it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TypeVar

import pytest

from backends.minio import MinIO
from backends.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from backends.seaweedfs import SeaweedFS
from backends.server import CannotStart, Server
from imageflow_common.store_s3_client import Credentials, S3Config

S = TypeVar("S", bound=Server)
_buckets = itertools.count()


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    yield from running(MinIO(tmp_path_factory.mktemp("minio")))


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    yield from running(SeaweedFS(tmp_path_factory.mktemp("seaweedfs")))


def running(server: S) -> Iterator[S]:
    """A server for a test or a session of tests; skips where there is none to be had."""
    try:
        server.start()
    except CannotStart as exc:
        pytest.skip(f"needs {server.name}: {exc}")
    try:
        yield server
    finally:
        server.kill()


def own_bucket(server: S3Server) -> S3Config:
    """A bucket that nobody else has, to be made by who connects."""
    return S3Config(
        bucket=f"test-{os.getpid()}-{next(_buckets)}",
        endpoint=server.endpoint,
        credentials=Credentials(ACCESS_KEY, SECRET_KEY),
        create_bucket=True,
    )
