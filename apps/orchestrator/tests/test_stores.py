"""The store that the settings name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.pytest_fixtures import own_bucket
from backends.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from backends.server import free_ports
from imageflow_common.errors import InvalidArgument, InvalidKey, Unavailable
from imageflow_common.store import parse_key
from imageflow_common.store_local import LocalStore
from imageflow_orchestrator.queue_epoch import EpochHold
from imageflow_orchestrator.queue_lock import FileHold
from imageflow_orchestrator.settings import OrchestratorSettings
from imageflow_orchestrator.stores import open_store, queue_hold, s3_config


def settings(**fields: Any) -> OrchestratorSettings:
    return OrchestratorSettings(**{"store_url": "s3://photos", **fields})


def test_a_bucket_and_a_prefix_are_read_from_the_url() -> None:
    assert (s3_config(settings()).bucket, s3_config(settings()).prefix) == ("photos", "")
    for url in ("s3://photos/team/one", "s3://photos/team/one/"):
        config = s3_config(settings(store_url=url))
        assert (config.bucket, config.prefix) == ("photos", "team/one/")
    with pytest.raises(InvalidKey):
        s3_config(settings(store_url="s3://photos/../x"))


@pytest.mark.parametrize("url", ["s3://", "s3://ab", "s3://Photos", "s3:/photos", "http://photos", "s3://a_b_c"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="store_url"):
        settings(store_url=url)


def test_the_bucket_stands_in_the_path_of_an_endpoint_and_in_the_host_name_of_aws() -> None:
    assert s3_config(settings()).addressing == "virtual"
    assert s3_config(settings(s3_endpoint="http://minio:9000")).addressing == "path"
    assert s3_config(settings(s3_endpoint="http://minio:9000", s3_addressing="virtual")).addressing == "virtual"


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "ftp://minio", "http://", "http://me:hidden@minio", "http://m/path"]
)
def test_an_endpoint_that_is_none_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="IMAGEFLOW_S3_ENDPOINT") as caught:
        s3_config(settings(s3_endpoint=endpoint))
    assert "hidden" not in str(caught.value)


def test_credentials_come_from_the_environment_or_a_folder_or_the_chain_of_aws(tmp_path: Path) -> None:
    assert s3_config(settings()).credentials is None
    given = s3_config(settings(s3_access_key="a", s3_secret_key="hidden")).credentials
    assert given is not None
    assert (given.access_key, given.secret_key) == ("a", "hidden")
    (tmp_path / "access-key").write_text("b\n")
    (tmp_path / "secret-key").write_text("hidden\n")
    both = settings(s3_access_key="a", s3_secret_key="x", s3_credentials_directory=tmp_path)
    read = s3_config(both).credentials
    assert read is not None
    assert (read.access_key, read.secret_key) == ("b", "hidden")
    assert "hidden" not in f"{both!r} {s3_config(both)!r} {read!r}"


@pytest.mark.parametrize("fields", [{"s3_access_key": "a"}, {"s3_secret_key": "b"}])
def test_half_a_credential_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="together"):
        s3_config(settings(**fields))


def test_a_folder_without_credentials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="access-key"):
        s3_config(settings(s3_credentials_directory=tmp_path))


async def test_a_directory_is_a_local_store_with_a_lock_beside_it(tmp_path: Path) -> None:
    local = settings(store_url=f"file://{tmp_path}/my%20store")
    store = await open_store(local)
    hold = queue_hold(local, store)
    assert (type(store), type(hold)) == (LocalStore, FileHold)
    assert (tmp_path / "my store" / "queue.lock").exists()
    await hold.let_go()
    await store.close()


async def test_a_bucket_is_a_store_with_an_epoch(minio: S3Server) -> None:
    chosen = settings(**fields_of(minio), s3_create_bucket=True)
    store = await open_store(chosen)
    assert isinstance(queue_hold(chosen, store), EpochHold)
    await store.put(parse_key("a"), b"x", media_type="image/png")
    await store.close()


async def test_the_chain_of_aws_is_asked_for_credentials(minio: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {name: value for name, value in fields_of(minio).items() if "key" not in name}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    await (await open_store(settings(**fields, s3_create_bucket=True))).close()


async def test_a_server_that_cannot_be_reached_is_waited_for(minio: S3Server) -> None:
    """It comes up when the first attempt has failed."""
    (port,) = free_ports(1)
    chosen = settings(**{**fields_of(minio), "s3_endpoint": f"http://127.0.0.1:{port}"}, s3_create_bucket=True)
    with pytest.raises(Unavailable):
        await open_store(chosen.model_copy(update={"s3_start_seconds": 0.01}))
    opening = asyncio.create_task(open_store(chosen))
    await asyncio.sleep(0)
    async with forwarding(port, minio.ports["main"]):
        await (await opening).close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({}, "bucket does not exist"), ({"s3_secret_key": "hidden-but-wrong"}, "refuses us")],
    ids=["no-bucket", "wrong-secret"],
)
async def test_what_keeps_it_from_starting_is_said_in_one_line(
    minio: S3Server, wrong: dict[str, str], said: str, tmp_path: Path
) -> None:
    fields = {**fields_of(minio), "shared_directory": tmp_path / "shared", "port": 0, **wrong}
    environment = os.environ | {f"IMAGEFLOW_{name.upper()}": str(value) for name, value in fields.items()}
    command = [sys.executable, "-m", "imageflow_orchestrator"]
    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert said in ended.stderr.splitlines()[-1]
    for secret in (SECRET_KEY, "hidden-but-wrong", "Traceback"):
        assert secret not in ended.stderr


def test_the_libraries_of_s3_are_loaded_only_where_it_is_configured() -> None:
    code = (
        "import sys, imageflow_orchestrator.app; assert not {'aiobotocore', 'botocore', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@asynccontextmanager
async def forwarding(port: int, to: int) -> AsyncIterator[None]:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(copy(reader, downstream), copy(upstream, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


def fields_of(server: S3Server) -> dict[str, Any]:
    """Of a bucket that is not made yet."""
    return {
        "store_url": f"s3://{own_bucket(server).bucket}",
        "s3_endpoint": server.endpoint,
        "s3_access_key": ACCESS_KEY,
        "s3_secret_key": SECRET_KEY,
    }
