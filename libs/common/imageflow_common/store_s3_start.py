"""What is seen to before the first object: that the bucket is there, and that the server keeps conditions."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from imageflow_common.errors import FailedPrecondition, ImageFlowError, ObjectNotFound, WriteConflict
from imageflow_common.keys import PROBES_PREFIX
from imageflow_common.store_s3_client import S3Client
from imageflow_common.store_s3_errors import BUCKET_EXISTS

_STALE = '"00000000000000000000000000000000"'


async def make_bucket(client: S3Client, region: str) -> None:
    """Makes the bucket unless it is there. Raises `PermissionDenied`, `Unavailable`, `FailedPrecondition`."""
    location = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        await client.call("create_bucket", **({} if region == "us-east-1" else location))
    except FailedPrecondition as exc:
        if exc.reason != BUCKET_EXISTS:
            raise


async def require_bucket(client: S3Client, prefix: str) -> None:
    """Raises `FailedPrecondition` for a missing bucket: some servers would make it at the first write."""
    await client.call("list_objects_v2", Prefix=prefix, MaxKeys=1)


async def require_conditional_writes(client: S3Client, prefix: str) -> None:
    """Raises `FailedPrecondition` for a server that writes though a condition is not met: executions would be run
    twice there, and nobody would notice."""
    name = f"{prefix}{PROBES_PREFIX}{uuid4().hex}"
    await client.call("put_object", Key=name, Body=b"1", IfNoneMatch="*")
    try:
        for header, condition in (("If-None-Match", {"IfNoneMatch": "*"}), ("If-Match", {"IfMatch": _STALE})):
            if await _writes(client, name, condition):
                raise FailedPrecondition(
                    f"the object store ignores {header}: it cannot hold executions, for which a write must be refused"
                    " when the object is not what it was",
                    reason="STORE_WITHOUT_CONDITIONS",
                )
    finally:
        with suppress(ImageFlowError):
            await client.call("delete_object", Key=name)


async def _writes(client: S3Client, name: str, condition: dict[str, str]) -> bool:
    try:
        await client.call("put_object", Key=name, Body=b"2", **condition)
    except (WriteConflict, ObjectNotFound):
        return False
    return True
