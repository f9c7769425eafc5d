"""The object store that the settings name, and what decides which orchestrator on it holds the queue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from imageflow_common.errors import InvalidArgument, PermissionDenied, StorageFull, Unavailable
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectStore, parse_prefix
from imageflow_common.store_local import LocalStore

from .queue_epoch import EpochHold
from .queue_lock import FileHold, QueueHold
from .settings import OrchestratorSettings

if TYPE_CHECKING:
    from imageflow_common.store_s3_client import Credentials, S3Config

log = EventLog(__name__)

_TRY_AGAIN_SECONDS = 1.0


async def open_store(settings: OrchestratorSettings) -> ObjectStore:
    """The store behind `store_url`. One on S3 is waited for, `s3_start_seconds` at most.

    Raises InvalidArgument for settings that contradict each other, FailedPrecondition, PermissionDenied, StorageFull,
    Unavailable.
    """
    if urlsplit(settings.store_url).scheme == "file":
        try:
            return LocalStore(store_directory(settings.store_url))
        except (PermissionDenied, StorageFull, Unavailable) as exc:
            raise type(exc)(f"{settings.store_url}: {exc.message}") from exc
    return await _connect(s3_config(settings), settings.s3_start_seconds)


def queue_hold(settings: OrchestratorSettings, store: ObjectStore) -> QueueHold:
    """A lock on a file beside a local store; an epoch in a store that several machines share."""
    if urlsplit(settings.store_url).scheme == "file":
        return FileHold(store_directory(settings.store_url) / "queue.lock")
    return EpochHold(store)


def store_directory(url: str) -> Path:
    """The directory that a `file://` URL names; a relative one is relative to the working directory."""
    parts = urlsplit(url)
    return Path(unquote(parts.netloc + parts.path))


def s3_config(settings: OrchestratorSettings) -> S3Config:
    """Raises InvalidArgument, PermissionDenied."""
    from datetime import timedelta

    from imageflow_common.store_s3_client import S3Config

    parts = urlsplit(settings.store_url)
    prefix = parse_prefix(unquote(parts.path).strip("/"))
    return S3Config(
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=_endpoint("IMAGEFLOW_S3_ENDPOINT", settings.s3_endpoint),
        public_endpoint=_endpoint("IMAGEFLOW_S3_PUBLIC_ENDPOINT", settings.s3_public_endpoint),
        region=settings.s3_region,
        addressing=settings.s3_addressing or ("path" if settings.s3_endpoint else "virtual"),
        ca_file=settings.s3_ca_file,
        credentials=_credentials(settings),
        create_bucket=settings.s3_create_bucket,
        max_connections=settings.s3_max_connections,
        attempt=timedelta(seconds=settings.s3_attempt_seconds),
        deadline=timedelta(seconds=settings.s3_deadline_seconds),
    )


def _endpoint(name: str, url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
        raise InvalidArgument(f"{name} is not http://HOST:PORT or https://HOST:PORT")
    return url


def _credentials(settings: OrchestratorSettings) -> Credentials | None:
    from imageflow_common.store_s3_client import Credentials

    folder, access, secret = settings.s3_credentials_directory, settings.s3_access_key, settings.s3_secret_key
    if folder is not None:
        return Credentials(_read(folder / "access-key"), _read(folder / "secret-key"))
    if (access is None) != (secret is None):
        raise InvalidArgument("IMAGEFLOW_S3_ACCESS_KEY and IMAGEFLOW_S3_SECRET_KEY are given together or not at all")
    if access is None or secret is None:
        return None
    return Credentials(access.get_secret_value(), secret.get_secret_value())


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as exc:
        raise InvalidArgument(f"IMAGEFLOW_S3_CREDENTIALS_DIRECTORY: {file.name} cannot be read") from exc


async def _connect(config: S3Config, seconds: float) -> ObjectStore:
    from imageflow_common.store_s3 import S3Store

    until = monotonic() + seconds
    while True:
        try:
            return await S3Store.connect(config)
        except Unavailable as exc:
            if monotonic() > until:
                raise
            log.warning("store.waited_for", error_type=exc.reason)
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
