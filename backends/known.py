"""The servers there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

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
