"""The servers there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from backends.minio import MinIO
from backends.seaweedfs import SeaweedFS
from backends.server import Server

SERVERS: Mapping[str, type[Server]] = {
    SeaweedFS.name: SeaweedFS,
    MinIO.name: MinIO,
}
DEFAULT: tuple[str, ...] = (SeaweedFS.name,)  # what `up` starts when no name is given
