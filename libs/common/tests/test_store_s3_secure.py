"""The store over TLS with an authority of one's own, and with the bucket in the host name, on a real server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.certificates import make_certificates
from backends.minio import SecureMinIO
from backends.pytest_fixtures import own_bucket
from backends.running import running
from backends.s3 import S3Server
from imageflow_common.errors import FailedPrecondition, Unavailable
from imageflow_common.store import parse_key
from imageflow_common.store_s3 import S3Store
from imageflow_common.store_s3_client import S3Config, connect

A = parse_key("a b/ü.png")
PNG = "image/png"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    yield from running(SecureMinIO(tmp_path_factory.mktemp("secure")))


@pytest.fixture
def names_below_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are this machine (RFC 6761), which not every machine's resolver knows."""
    known = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **named: Any) -> Any:
        return known("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def keeps_and_signs(config: S3Config) -> str:
    """Puts, gets, lists, and fetches by a signed URL; answers that."""
    store = await S3Store.connect(config)
    try:
        await store.put(A, b"bytes", media_type=PNG, if_absent=True)
        assert (await store.get(A)).data == b"bytes"
        assert [item.key for item in (await store.list("")).items] == [A]
        signed = (await store.sign_get(A, lifetime=timedelta(minutes=1))).url
    finally:
        await store.close()
    assert await asyncio.to_thread(fetch, signed, config.ca_file) == b"bytes"
    return signed


def fetch(url: str, ca_file: Path | None) -> bytes:
    trust = ssl.create_default_context(cafile=ca_file)
    with urllib.request.urlopen(url, timeout=10, context=trust) as answer:
        return bytes(answer.read())


async def test_a_server_with_a_certificate_of_the_authority_is_used(secure: S3Server) -> None:
    config = own_bucket(secure)
    assert f":{secure.ports['main']}/{config.bucket}/a%20b/" in await keeps_and_signs(config)


@pytest.mark.usefixtures("names_below_localhost")
async def test_a_bucket_may_stand_in_the_host_name(secure: S3Server) -> None:
    endpoint = f"https://s3.localhost:{secure.ports['main']}"
    config = replace(own_bucket(secure), endpoint=endpoint, addressing="virtual")
    assert (await keeps_and_signs(config)).startswith(f"https://{config.bucket}.s3.localhost:")


@pytest.mark.parametrize("other", [False, True], ids=["unknown", "another"])
async def test_a_server_of_an_authority_that_is_not_trusted_is_refused(
    secure: S3Server, tmp_path: Path, other: bool
) -> None:
    if other:
        make_certificates(tmp_path)
    with pytest.raises(Unavailable) as caught:
        await S3Store.connect(replace(own_bucket(secure), ca_file=tmp_path / "ca.pem" if other else None))
    assert caught.value.reason == "STORE_CERTIFICATE"


async def test_an_object_that_somebody_encrypted_with_a_key_of_his_own_is_refused(secure: S3Server) -> None:
    store = await S3Store.connect(config := own_bucket(secure))
    raw = await connect(config)
    theirs = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}
    await raw.call("put_object", Key="sealed.png", Body=b"bytes", **theirs)
    for read in (store.head, store.get):
        with pytest.raises(FailedPrecondition) as caught:
            await read(parse_key("sealed.png"))
        assert caught.value.reason == "STORE_REFUSED"
    await raw.close()
    await store.close()
