"""What is configured, whether it can be reached, what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imageflow_common.errors import ImageFlowError

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`problem` and `advice` are empty where all is well, or nothing is configured."""

    part: str
    configured: str
    state: str
    problem: str = ""
    advice: str = ""


def examine(url: str) -> list[Finding]:
    """Looks at each part, by the settings of the environment. Changes nothing."""
    return [_gateway(url), _store(), _kafka(), *map(_address, ADDRESSES)]


def _gateway(url: str) -> Finding:
    from .web import http_get

    status = asyncio.run(http_get(f"{url}/readyz")).status
    if status == 200:
        return Finding("gateway", url, "ready")
    problem = f"not ready (HTTP {status})" if status else "no server answers"
    advice = "imageflow status shows what is not well, and since when" if status else "imageflow up, or --url"
    return Finding("gateway", url, "wrong", problem, advice)


def _store() -> Finding:
    from imageflow_common.settings import load_settings
    from imageflow_orchestrator.settings import OrchestratorSettings

    settings = load_settings(OrchestratorSettings)
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        return _folder(settings.store_url, Path(unquote(parts.netloc + parts.path)))
    from imageflow_orchestrator.stores import open_store

    async def opened() -> None:
        await (await open_store(settings.model_copy(update={"s3_start_seconds": _SECONDS}))).close()

    return _tried("store", settings.store_url, lambda: asyncio.run(opened()), "IMAGEFLOW_S3_…: docs/operations.md")


def _folder(url: str, folder: Path) -> Finding:
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if there.is_dir() and os.access(there, os.W_OK):
        return Finding("store", url, "ready" if folder.exists() else "will be made")
    return Finding("store", url, "wrong", f"{there} cannot be written to", "IMAGEFLOW_STORE_URL, or the folder's mode")


def _kafka() -> Finding:
    from imageflow_common.kafka_settings import KafkaSettings
    from imageflow_common.settings import load_settings

    settings = load_settings(KafkaSettings)
    servers = settings.bootstrap_servers
    if not servers:
        return Finding("kafka", "IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS", "not configured")

    def topics() -> None:
        from imageflow_common.errors import FailedPrecondition
        from imageflow_common.kafka_topics import missing_topics
        from imageflow_orchestrator.news import TOPICS

        quickly = settings.model_copy(update={"timeout_seconds": _SECONDS})
        if (missing := missing_topics(quickly, TOPICS)) and not settings.create_topics:
            raise FailedPrecondition(f"topics are missing: {', '.join(missing)}")

    return _tried("kafka", servers, topics, "is the broker up? IMAGEFLOW_KAFKA_…; IMAGEFLOW_KAFKA_CREATE_TOPICS=true")


ADDRESSES = {"triton": "IMAGEFLOW_TRITON_URL", "telemetry": "OTEL_EXPORTER_OTLP_ENDPOINT"}
"""Parts of which no more is asked than whether somebody listens, by their variables."""


def _address(part: str) -> Finding:
    variable = ADDRESSES[part]
    value = os.environ.get(variable, "")
    if not value:
        return Finding(part, variable, "not configured")
    place = urlsplit(value if "//" in value else f"//{value}")
    try:
        socket.create_connection((place.hostname or "", place.port or 4317), timeout=_SECONDS).close()
    except (OSError, ValueError) as exc:
        return Finding(part, value, "wrong", f"nobody listens: {exc}", f"start it, or change {variable}")
    return Finding(part, value, "ready")


def _tried(part: str, configured: str, attempt: Callable[[], None], advice: str) -> Finding:
    try:
        attempt()
    except ImageFlowError as exc:
        return Finding(part, configured, "wrong", exc.message, advice)
    except ModuleNotFoundError as exc:
        return Finding(
            part, configured, "wrong", f"{exc.name} is not installed", f"pip install 'imageflow-cli[{part}]'"
        )
    return Finding(part, configured, "ready")
