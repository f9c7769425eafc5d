"""Objects of the store as S3 has them: keys below a prefix, checksums and metadata in headers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from imageflow_common.errors import DataLoss
from imageflow_common.store import OWN_METADATA, ObjectInfo, ObjectKey
from imageflow_common.store_s3_client import Answer

SHA256_NAME = OWN_METADATA + "sha256"
WRITE_NAME = OWN_METADATA + "write"
"""Tells one conditional write from another, when nobody knows which of them succeeded."""

_SHA256 = re.compile("[0-9a-f]{64}")
_UNKNOWN = "application/octet-stream"
"""Less is hashed in less time than a thread takes to begin."""


@dataclass(frozen=True, slots=True)
class Write:
    """A checked request to put; `name` is the whole key in the bucket."""

    key: ObjectKey
    name: str
    media_type: str
    metadata: Mapping[str, str]
    if_absent: bool
    if_generation: str | None

    @property
    def condition(self) -> dict[str, str]:
        """As arguments of S3."""
        if self.if_absent:
            return {"IfNoneMatch": "*"}
        return {} if self.if_generation is None else {"IfMatch": self.if_generation}


def header_of(sha256: str) -> str:
    """As the header `x-amz-checksum-sha256` has it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def own_metadata(sha256: str, write_id: str | None) -> dict[str, str]:
    """What the store adds to an object's metadata."""
    return {SHA256_NAME: sha256} if write_id is None else {SHA256_NAME: sha256, WRITE_NAME: write_id}


def info_of(key: ObjectKey, answer: Answer, *, size_bytes: int | None = None) -> ObjectInfo:
    """What the headers of HEAD or GET say of an object."""
    metadata: dict[str, str] = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    sha256 = metadata.get(SHA256_NAME, "")
    return ObjectInfo(
        key=key,
        size_bytes=answer["ContentLength"] if size_bytes is None else size_bytes,
        media_type=answer.get("ContentType") or _UNKNOWN,
        sha256=sha256 if _SHA256.fullmatch(sha256) else None,
        generation=answer["ETag"],
        modified=answer["LastModified"],
        metadata=MappingProxyType({k: v for k, v in metadata.items() if not k.startswith(OWN_METADATA)}),
    )


def info_of_put(write: Write, answer: Answer, *, sha256: str, size_bytes: int) -> ObjectInfo:
    """What a put has made, by our clock."""
    return ObjectInfo(
        key=write.key,
        size_bytes=size_bytes,
        media_type=write.media_type,
        sha256=sha256,
        generation=answer["ETag"],
        modified=datetime.now(UTC),
        metadata=MappingProxyType(dict(write.metadata)),
    )


def check_sha256(info: ObjectInfo, found: str) -> None:
    """Raises `DataLoss` for other bytes than were written."""
    if info.sha256 is not None and info.sha256 != found:
        raise DataLoss("a stored object is not what was written: its checksum differs", reason="CHECKSUM_DIFFERS")
