"""Where objects are kept: the promise that every store makes, and the keys it takes.

The promise is what S3 can hold (`If-None-Match: *`, `If-Match`, generation = ETag, listing in key order),
so a local directory and a bucket stand behind one Protocol and pass one contract suite.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NewType, Protocol, TypeAlias

from imageflow_common.errors import InvalidArgument, InvalidKey, Violation

ObjectKey = NewType("ObjectKey", str)
"""A key that `parse_key` has accepted: relative, NFC, `/`-separated, without `.`, `..` or empty segments."""

BytesLike: TypeAlias = bytes | bytearray | memoryview

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
MAX_PAGE_SIZE = 1000
MAX_METADATA_BYTES = 1536  # S3 allows 2048 for all of it, and a store adds its checksum
OWN_METADATA = "imageflow-"
"""Names of metadata that begin so are the stores' own."""
NO_METADATA: Mapping[str, str] = MappingProxyType({})

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+/[!#-'*+\-.0-9A-Z^-z|~]+( *; *[ -~]+)?")
_METADATA_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_METADATA_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows about one object.

    `generation` is opaque and changes whenever the bytes change; two writes of equal bytes may share one,
    and a change of `metadata` alone need not show in it. `sha256` is lower-case hex over the whole object,
    None only when another program put the object there. `modified` is aware, to the second or finer.
    """

    key: ObjectKey
    size_bytes: int
    media_type: str
    sha256: str | None
    generation: str
    modified: datetime
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)


@dataclass(frozen=True, slots=True)
class ObjectSummary:
    """What a listing says of an object: all that S3 lists. `head` has the rest."""

    key: ObjectKey
    size_bytes: int
    generation: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A whole object in memory; `data` and `info` come from the same write."""

    info: ObjectInfo
    data: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Objects in order of their keys' UTF-8 bytes; with some servers, of those of their segments (`a/b` before `a-b`).
    `next_page_token` is None on the last page, and only there.
    """

    items: tuple[ObjectSummary, ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """What does one thing with one object for whoever has it, until it expires. The request must have the headers."""

    url: str = field(repr=False)
    headers: Mapping[str, str]
    expires: datetime


class ObjectReader(Protocol):
    """An open object: `info` of the whole object, then the bytes of the range in order, as chunks of at most
    a few MiB. The bytes are those of one write, whatever is put meanwhile. Iterate once.
    """

    @property
    def info(self) -> ObjectInfo: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises `DataLoss` when the object ends before its range does, `Unavailable` when the store goes
        away.
        """
        ...


class ObjectStore(Protocol):
    """Objects by key. A key may be an object and the prefix of others at once, though some servers then don't list
    the others.

    Every method raises `InvalidKey` for what `parse_key` would refuse, `PermissionDenied` when the store
    refuses us, and `Unavailable` when it cannot be reached; no message holds a path. A cancelled write has
    happened wholly or not at all.
    """

    async def put(
        self,
        key: ObjectKey,
        data: BytesLike | AsyncIterable[bytes],
        *,
        media_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
        if_absent: bool = False,
        if_generation: str | None = None,
    ) -> ObjectInfo:
        """Write an object whole; readers see the old one or the new one, never a mixture.

        A stream is never held whole in memory. `if_absent` writes only where there is no object and
        `if_generation` only over that generation: of any number of concurrent conditional writers at most
        one succeeds, and the others (as one who finds no object at all) raise `WriteConflict`. An exception
        from the stream passes through and nothing is written. Raises `StorageFull`, and `InvalidArgument`
        for options that `check_put` refuses. The result's `modified` may be the writer's clock.
        """
        ...

    async def get(self, key: ObjectKey) -> StoredObject:
        """The whole object. Raises `ObjectNotFound`; `DataLoss` when it is truncated. The checksum is
        handed out, not checked.
        """
        ...

    def open(
        self, key: ObjectKey, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Bytes `start` up to, not including, `end` (clamped to the object's size), in bounded memory.

        Raises `ObjectNotFound`; `InvalidArgument` for `start < 0`, `end <= start`, or a `start` past the last
        byte (except 0, so that an empty object can be read).
        """
        ...

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """Raises `ObjectNotFound`."""
        ...

    async def delete(self, key: ObjectKey, *, if_generation: str | None = None) -> None:
        """Remove an object; no object is fine, unless `if_generation` is given: then anything but that
        generation raises `WriteConflict`.
        """
        ...

    async def list(
        self,
        prefix: str,
        *,
        page_size: int = MAX_PAGE_SIZE,
        page_token: str | None = None,
        start_after: str | None = None,
    ) -> Page:
        """The objects whose keys start with `prefix` (any text that starts a key, or empty), in order.

        Goes on from `page_token`, or begins behind the key `start_after`, without visiting what comes
        before. A full walk sees every object that was there throughout, once; those put or deleted
        meanwhile may be seen or not. Raises `InvalidArgument` for a `page_size` outside 1 to 1000, a token
        that is not ours, or both a token and `start_after`.
        """
        ...

    async def sign_get(self, key: ObjectKey, *, lifetime: timedelta) -> SignedUrl:
        """A URL to GET an object with, be it there or not. Raises `FailedPrecondition` where there are no URLs."""
        ...

    async def sign_put(
        self, key: ObjectKey, *, lifetime: timedelta, media_type: str, sha256: str | None = None
    ) -> SignedUrl:
        """A URL to PUT an object with; of bytes with this checksum alone if it is given. Raises as `sign_get`."""
        ...

    async def close(self) -> None:
        """Finish what runs and let go of everything; later calls raise `Unavailable`. Closing twice is
        fine.
        """
        ...


def parse_key(text: str) -> ObjectKey:
    """`text` as a key, NFC-normalised. Raises `InvalidKey`, saying what is wrong with it."""
    key = unicodedata.normalize("NFC", text)
    if not key:
        raise InvalidKey("an object key is empty")
    if key.startswith("/"):
        raise InvalidKey("an object key starts with '/'")
    _check_text(key)
    for segment in key.split("/"):
        _check_segment(segment)
    return ObjectKey(key)


def parse_prefix(text: str) -> str:
    """`text` as the start of keys, NFC-normalised: empty, or a key that may end in '/' or within a segment.

    Raises `InvalidKey`.
    """
    prefix = unicodedata.normalize("NFC", text)
    _check_text(prefix)
    *folders, rest = prefix.split("/")
    for segment in folders:
        _check_segment(segment)
    if len(rest.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidKey(f"a segment of an object key is longer than {MAX_SEGMENT_BYTES} bytes")
    return prefix


def check_put(*, media_type: str, metadata: Mapping[str, str], if_absent: bool, if_generation: str | None) -> None:
    """Raise `InvalidArgument` for what no store could keep.

    A media type is `type/subtype` with optional parameters, at most 255 ASCII characters. Metadata names are
    lower-case letters, digits and '-', and don't begin with `OWN_METADATA`; values are printable ASCII
    without space at either end; together at most `MAX_METADATA_BYTES`.
    """
    if if_absent and if_generation is not None:
        raise InvalidArgument("if_absent and if_generation exclude each other")
    if len(media_type) > 255 or not _MEDIA_TYPE.fullmatch(media_type):
        raise _fault("media_type", "not a media type such as image/png")
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name):
            raise _fault("metadata", "names are lower-case letters, digits and inner '-'")
        if name.startswith(OWN_METADATA):
            raise _fault("metadata", f"names that begin with '{OWN_METADATA}' are reserved")
        if not _METADATA_VALUE.fullmatch(value):
            raise _fault(f"metadata[{name}]", "values are printable ASCII without space at either end")
    if sum(len(name) + len(value) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise _fault("metadata", f"larger than {MAX_METADATA_BYTES} bytes")


def check_range(start: int, end: int | None) -> None:
    """Raise `InvalidArgument` for a range that is empty or negative whatever the object."""
    if start < 0:
        raise _fault("start", "negative")
    if end is not None and end <= start:
        raise _fault("end", "not behind start")


def check_page(page_size: int, page_token: str | None, start_after: str | None) -> None:
    """Raise `InvalidArgument` for a page that no store would serve."""
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise _fault("page_size", f"not within 1 to {MAX_PAGE_SIZE}")
    if page_token is not None and start_after is not None:
        raise InvalidArgument("page_token and start_after exclude each other")


def _check_text(text: str) -> None:
    if _SURROGATE.search(text):
        raise InvalidKey("an object key is not valid Unicode")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise InvalidKey(f"an object key is longer than {MAX_KEY_BYTES} bytes")
    if _CONTROL.search(text):
        raise InvalidKey("an object key holds NUL or another control character")
    if "\\" in text:
        raise InvalidKey("an object key holds a backslash")


def _check_segment(segment: str) -> None:
    if not segment:
        raise InvalidKey("an object key has an empty segment ('//' or '/' at an end)")
    if segment in (".", ".."):
        raise InvalidKey("an object key has a segment '.' or '..'")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidKey(f"a segment of an object key is longer than {MAX_SEGMENT_BYTES} bytes")


def _fault(name: str, description: str) -> InvalidArgument:
    return InvalidArgument(f"{name}: {description}", violations=[Violation(name, description)])
