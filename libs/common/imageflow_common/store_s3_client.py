"""How an S3 server is reached: configuration, and a client of which every call has a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from imageflow_common.errors import Unavailable
from imageflow_common.store_s3_body import hashed_body, whole_body
from imageflow_common.store_s3_errors import FAULTS, INCOMPLETE, code_of, our_error

_ATTEMPTS = 3
_CONNECT_SECONDS = 3.0

T = TypeVar("T")

Answer = dict[str, Any]
"""What a call of S3 answers, by the names of its API reference."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Never shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Config:
    """One bucket of one server, and in it the keys that start with `prefix` (empty, or ending in '/').

    Without an `endpoint` the one of AWS in `region`; URLs for others are of the `public_endpoint`, if there is one;
    without `credentials` what the standard chain of AWS finds (environment, shared files, roles). `ca_file` has the
    certificates to trust instead of the usual ones. `attempt` bounds one request, `deadline` an operation with its
    retries.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str = "us-east-1"
    addressing: Literal["auto", "path", "virtual"] = "path"
    ca_file: Path | None = None
    credentials: Credentials | None = None
    create_bucket: bool = False
    max_connections: int = 32
    attempt: timedelta = timedelta(seconds=10)
    deadline: timedelta = timedelta(seconds=30)


class S3Client:
    """Calls one bucket. Every call ends by the deadline, and raises errors of our tree alone."""

    def __init__(
        self, client: Any, signer: Any, bucket: str, deadline: timedelta, closing: AsyncExitStack | None = None
    ) -> None:
        self._client = client
        self._signer = signer
        self._bucket = bucket
        self._deadline = deadline
        self._closing = closing or AsyncExitStack()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def call(self, operation: str, **arguments: Any) -> Answer:
        """One operation on the bucket, by its name in snake case; not one whose answer is a stream. What arrived in
        part is sent again."""
        async with self._at_work():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._call(operation, arguments)
                except ClientError as exc:
                    if code_of(exc) not in INCOMPLETE:
                        raise
            return await self._call(operation, arguments)

    async def read(self, **arguments: Any) -> tuple[Answer, bytes]:
        """GetObject with all its bytes. What breaks off is asked for again. Raises `DataLoss` for fewer bytes than
        were announced."""
        return await self._read_again(arguments, whole_body)

    async def read_hashed(self, **arguments: Any) -> tuple[Answer, bytes, str]:
        """As `read`, with the SHA-256 of the bytes, which is computed while they arrive."""
        answer, (data, sha256) = await self._read_again(arguments, hashed_body)
        return answer, data, sha256

    async def signed(self, operation: str, lifetime: timedelta, **arguments: Any) -> str:
        """A URL that does one operation for whoever has it. Asks nothing of the server."""
        async with self._at_work():
            url: str = await self._signer.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, **arguments}, ExpiresIn=int(lifetime.total_seconds())
            )
            return url

    def source(self, name: str) -> Answer:
        """An object of the bucket, as what is copied."""
        return {"Bucket": self._bucket, "Key": name}

    def of_bucket(self, bucket: str) -> S3Client:
        """Another bucket over the connections of this client, which is closed after it."""
        return S3Client(self._client, self._signer, bucket, self._deadline)

    async def close(self) -> None:
        """Waits for the calls that run; each has its deadline. Later ones raise `Unavailable`."""
        self._closed = True
        await self._idle.wait()
        await self._closing.aclose()

    async def _call(self, operation: str, arguments: Answer) -> Answer:
        answer: Answer = await getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        return answer

    async def _read_again(self, arguments: Answer, take: Callable[[Any, int], Awaitable[T]]) -> tuple[Answer, T]:
        async with self._at_work():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._read(arguments, take)
                except aiohttp.ClientPayloadError:
                    continue
            return await self._read(arguments, take)

    async def _read(self, arguments: Answer, take: Callable[[Any, int], Awaitable[T]]) -> tuple[Answer, T]:
        answer: Answer = await self._client.get_object(Bucket=self._bucket, **arguments)
        async with answer["Body"] as body:
            return answer, await take(body, answer["ContentLength"])

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        if self._closed:
            raise Unavailable("the object store is closed")
        self._running += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                yield
        except FAULTS as exc:
            raise our_error(exc) from exc
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()


async def connect(config: S3Config) -> S3Client:
    """A client, to be closed. Nothing is asked of the server yet."""
    closing = AsyncExitStack()
    client = await closing.enter_async_context(_client(config, config.endpoint))
    client.meta.events.register("before-sign.s3", _drop_expect)
    signer = client
    if config.public_endpoint is not None:
        signer = await closing.enter_async_context(_client(config, config.public_endpoint))
    return S3Client(client, signer, config.bucket, config.deadline, closing)


def _client(config: S3Config, endpoint: str | None) -> AbstractAsyncContextManager[Any]:
    given = config.credentials
    client: AbstractAsyncContextManager[Any] = get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=config.region,
        verify=str(config.ca_file) if config.ca_file else None,
        aws_access_key_id=given.access_key if given else None,
        aws_secret_access_key=given.secret_key if given else None,
        aws_session_token=given.session_token if given else None,
        config=_client_config(config),
    )
    return client


def _client_config(config: S3Config) -> AioConfig:
    """Bodies are not signed: their SHA-256 goes along in a header that is."""
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": config.addressing, "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=config.attempt.total_seconds(),
        max_pool_connections=config.max_connections,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
    )


def _drop_expect(request: Any, **_: Any) -> None:
    """With `Expect: 100-continue` a server that stands still is waited for past every timeout."""
    del request.headers["Expect"]
