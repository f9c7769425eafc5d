"""Reading from S3 a range at a time, so that a slow reader holds no connection, and a broken one costs one range."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from imageflow_common.errors import InvalidArgument, Unavailable, WriteConflict
from imageflow_common.hashing import Hash
from imageflow_common.store import ObjectInfo, ObjectKey
from imageflow_common.store_s3_client import Answer, S3Client
from imageflow_common.store_s3_objects import check_sha256, info_of

RANGE_BYTES = 4 << 20
"""What is in memory of an object that is read."""
_CHUNK_BYTES = 1 << 20


class RangeReader:
    """An `ObjectReader` of one generation. A whole object's checksum is checked before its last range is handed out."""

    def __init__(self, client: S3Client, name: str, info: ObjectInfo, first: bytes, start: int, end: int) -> None:
        self.info = info
        self._client = client
        self._name = name
        self._first = first
        self._start = start
        self._end = end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        digest = Hash() if (self._start, self._end) == (0, self.info.size_bytes) else None
        position, data = self._start, self._first
        while data:
            position += len(data)
            if digest is not None:
                await digest.update(data)
                if position == self._end:
                    check_sha256(self.info, digest.hex())
            for start in range(0, len(data), _CHUNK_BYTES):
                yield data[start : start + _CHUNK_BYTES]
            data = await self._range(position)

    async def _range(self, start: int) -> bytes:
        if start == self._end:
            return b""
        wanted = _range_of(start, min(start + RANGE_BYTES, self._end))
        try:
            _, data = await self._client.read(Key=self._name, Range=wanted, IfMatch=self.info.generation)
        except WriteConflict as exc:
            raise Unavailable("the object was replaced while it was read", reason="OBJECT_CHANGED") from exc
        return data


async def open_range(client: S3Client, key: ObjectKey, name: str, start: int, end: int | None) -> RangeReader:
    """Reads the first range. Raises `ObjectNotFound`, and `InvalidArgument` for a start past the last byte."""
    stop = start + RANGE_BYTES if end is None else min(end, start + RANGE_BYTES)
    try:
        answer, data = await client.read(Key=name, Range=_range_of(start, stop))
    except InvalidArgument as exc:
        if start or exc.reason != "RANGE_NOT_SATISFIABLE":
            raise
        answer, data = await client.read(Key=name)  # it is empty, or was a moment ago
    info = info_of(key, answer, size_bytes=_size_of(answer))
    last = info.size_bytes if end is None else min(end, info.size_bytes)
    return RangeReader(client, name, info, data[: last - start], start, last)


def _range_of(start: int, end: int) -> str:
    return f"bytes={start}-{end - 1}"


def _size_of(answer: Answer) -> int:
    """Of the whole object."""
    content_range: Any = answer.get("ContentRange")
    return int(str(content_range).rpartition("/")[2]) if content_range else int(answer["ContentLength"])
