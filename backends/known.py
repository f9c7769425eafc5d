"""The servers there are, by name, and the ways to them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.container import Contained, ContainedKafka, ContainedMinIO, start_either, with_engine
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
_CONTAINED: Mapping[str, type[Contained]] = {MinIO.name: ContainedMinIO, KafkaServer.name: ContainedKafka}
_GIVEN: Mapping[str, type[Given]] = {SeaweedFS.name: GivenS3, MinIO.name: GivenS3, KafkaServer.name: GivenKafka}


def given(name: str, directory: Path) -> Given | None:
    """The one that the environment names instead."""
    kind = _GIVEN.get(name)
    return kind(directory) if kind and os.environ.get(kind.variable) else None


def ours(name: str, directory: Path) -> Sequence[Server]:
    """The process, and before it the container, where there may be one. One of them runs at most."""
    return [kind(directory) for kind in (_CONTAINED.get(name), SERVERS[name]) if kind]


def install(name: str, directory: Path) -> None:
    """What the process needs, and the image where an engine can have it. Raises CannotStart."""
    *contained, process = ours(name, directory)
    try:
        process.install()
    finally:
        for server in contained:
            with_engine(server, server.install)


def start(name: str, directory: Path) -> Server:
    """The given one, else whichever of ours can be had. Raises CannotStart."""
    if server := given(name, directory):
        server.start()
        return server
    *contained, process = ours(name, directory)
    if contained:
        return start_either(contained[0], process)
    process.start()
    return process
