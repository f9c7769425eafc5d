"""The same product with its objects in a bucket of a real MinIO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from backends.pytest_fixtures import own_bucket
from backends.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.e2e.callers import Callers, connect
from tests.e2e.conftest import run
from tests.e2e.product import Product
from tests.e2e.test_executions_survive import SETTINGS

PREFIX = "team/one"


@pytest.fixture(scope="session")
def bucket(minio: S3Server) -> str:
    """Not made yet."""
    return own_bucket(minio).bucket


@pytest.fixture(scope="session")
def product(minio: S3Server, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    yield from run(on_s3(minio, bucket, tmp_path_factory.mktemp("on-s3")))


@pytest.fixture(scope="session")
def callers(product: Product) -> Iterator[Callers]:
    yield from connect(product.url, f"127.0.0.1:{product.port}")


@pytest.fixture
def first(minio: S3Server, tmp_path: Path) -> Iterator[Product]:
    """A product of its own: it is ended in the middle."""
    folder = tmp_path / "first"
    folder.mkdir()
    started = on_s3(minio, own_bucket(minio).bucket, folder, **SETTINGS)
    try:
        started.wait_ready()
        yield started
    finally:
        started.kill()


@pytest.fixture(scope="session")
def s3(minio: S3Server) -> Any:
    """Somebody else's client."""
    return boto3.client(
        "s3",
        endpoint_url=minio.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def on_s3(server: S3Server, bucket: str, folder: Path, **environment: str) -> Product:
    credentials = {
        "IMAGEFLOW_S3_ACCESS_KEY": ACCESS_KEY,
        "IMAGEFLOW_S3_SECRET_KEY": SECRET_KEY,
        "IMAGEFLOW_S3_CREATE_BUCKET": "true",
    }
    arguments = ("--s3", f"s3://{bucket}/{PREFIX}", "--s3-endpoint", server.endpoint)
    return Product(folder, *arguments, environment={**credentials, **environment})
