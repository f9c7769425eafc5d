"""The servers there are, by name, and the ways to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from backends.given import Given, GivenKafka, GivenS3
from backends.kafka import KafkaServer
from backends.kubernetes import Kubernetes
from backends.loki import Loki
from backends.minio import MinIO
from backends.otelcol import OtelCollector
from backends.prometheus import Prometheus
from backends.seaweedfs import SeaweedFS
from backends.server import Server
from backends.triton import Triton
from backends.zipkin import Zipkin

SERVERS: Mapping[str, type[Server]] = {
    SeaweedFS.name: SeaweedFS,
    MinIO.name: MinIO,
    KafkaServer.name: KafkaServer,
    Triton.name: Triton,
    OtelCollector.name: OtelCollector,
    Prometheus.name: Prometheus,
    Zipkin.name: Zipkin,
    Loki.name: Loki,
    Kubernetes.name: Kubernetes,
}
DEFAULT: tuple[str, ...] = (SeaweedFS.name, KafkaServer.name)  # what `up` starts when no name is given
TESTED: tuple[str, ...] = tuple(
    name for name in SERVERS if name not in (OtelCollector.name, Loki.name, Kubernetes.name)
)
"""What `install` installs when no name is given: all that `make test` needs. Those that take minutes to build are left
to `make prove`."""
_GIVEN: Mapping[str, type[Given]] = {SeaweedFS.name: GivenS3, MinIO.name: GivenS3, KafkaServer.name: GivenKafka}


def given(name: str, directory: Path) -> Given | None:
    """The one that the environment names instead."""
    kind = _GIVEN.get(name)
    return kind(directory) if kind and os.environ.get(kind.variable) else None


def ours(name: str, directory: Path) -> Server:
    return SERVERS[name](directory)


def start(name: str, directory: Path) -> Server:
    """The given one, else ours. Raises CannotStart."""
    server = given(name, directory) or ours(name, directory)
    server.start()
    return server
