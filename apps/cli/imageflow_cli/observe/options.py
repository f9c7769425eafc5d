"""Options that name the stores of metrics and traces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .traces import TraceStore

prometheus_option = click.option(
    "--prometheus",
    envvar="IMAGEFLOW_PROMETHEUS_URL",
    default="http://127.0.0.1:9090",
    show_default=True,
    help="Prometheus' URL; also IMAGEFLOW_PROMETHEUS_URL.",
)


def trace_store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--zipkin` and `--jaeger`. The command gets `store`, None when neither was given."""

    @click.option("--zipkin", envvar="IMAGEFLOW_ZIPKIN_URL", help="Zipkin's URL; also IMAGEFLOW_ZIPKIN_URL.")
    @click.option("--jaeger", envvar="IMAGEFLOW_JAEGER_URL", help="Jaeger's URL; also IMAGEFLOW_JAEGER_URL.")
    @functools.wraps(command)
    def wrapped(*args: Any, zipkin: str | None, jaeger: str | None, **kwargs: Any) -> Any:
        return command(*args, store=_store(zipkin, jaeger), **kwargs)

    return wrapped


def _store(zipkin: str | None, jaeger: str | None) -> TraceStore | None:
    from .jaeger import JaegerStore
    from .zipkin import ZipkinStore

    if jaeger:
        return JaegerStore(jaeger)
    return ZipkinStore(zipkin) if zipkin else None
