"""Where everything lies in a store (docs/adr/0004-key-layout.md): no listing passes over what it does not
want.

Names are checked here: ids are 1 to 128 of `A-Z a-z 0-9 . _ -`, other than `.` and `..`. Every function
raises `InvalidKey` for anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from imageflow_common.errors import InvalidKey
from imageflow_common.store import MAX_PAGE_SIZE, ObjectKey, ObjectStore, Page, parse_key, parse_prefix

RESERVED = ".imageflow/"
"""Below it lie the system's own objects; `ImageService` neither shows nor takes a key there."""

PENDING_PREFIX = RESERVED + "pending/"
"""Executions that are not done with, in all namespaces, oldest first."""

INDEX_PREFIX = RESERVED + "index/"
"""Every execution, by namespace, newest first."""

PIPELINES_PREFIX = RESERVED + "pipelines/"
"""One empty object per pipeline id that has a stored definition, by id."""

QUEUE_KEY = ObjectKey(RESERVED + "queue")
"""Who holds the queue of accepted executions, where several machines share a store."""

UPLOADS_PREFIX = RESERVED + "uploads/"
"""Streams that are on their way into a store that writes them aside first."""

PROBES_PREFIX = RESERVED + "probes/"
"""Objects by which a store is seen to keep its promises."""

_BEHIND_RESERVED = RESERVED[:-1] + "/\U0010ffff"
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")
_LAST_MILLISECOND = 10**13 - 1  # in 2286
_INDEX = re.compile(r"\.imageflow/index/([^/]+)/(\d{4})/(\d\d)/(\d{7})-([^/]+)")
_PENDING = re.compile(r"\.imageflow/pending/(\d{13})-([^/]+)/([^/]+)")
_NEWEST = re.compile(r"\.imageflow/definitions/([^/]+)/newest/(\d{13})-([^/]+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IndexedExecution:
    """What an index entry or a pending marker says. `created` is cut to the millisecond, UTC."""

    namespace: str
    execution_id: str
    created: datetime


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """What an entry of a pipeline's newest-first list says. `created` is cut to the millisecond, UTC."""

    pipeline_id: str
    version: str
    created: datetime


def artifact_key(namespace: str, execution_id: str, step_id: str, attempt: int) -> ObjectKey:
    """What one attempt (from 1) of a step produced; the output step's is the execution's output."""
    if attempt < 1:
        raise InvalidKey("an attempt is counted from 1")
    return ObjectKey(f"{artifacts_prefix(namespace, execution_id)}{_id(step_id)}/{attempt}")


def artifacts_prefix(namespace: str, execution_id: str) -> str:
    """All that an execution produced."""
    return f"artifacts/{_id(namespace)}/{_id(execution_id)}/"


def metadata_key(output: ObjectKey) -> ObjectKey:
    """The JSON next to an output (R31). Raises `InvalidKey` when the longer key does not fit."""
    return parse_key(output + ".json")


def record_key(namespace: str, execution_id: str) -> ObjectKey:
    """An execution's record: the truth about it."""
    return ObjectKey(f"{RESERVED}records/{_id(namespace)}/{_id(execution_id)}")


def index_key(namespace: str, created: datetime, execution_id: str) -> ObjectKey:
    """An empty object in the time-ordered index: later executions come first."""
    time = _newest_first(created)
    return ObjectKey(f"{index_prefix(namespace)}{time[:4]}/{time[4:6]}/{time[6:]}-{_id(execution_id)}")


def index_prefix(namespace: str) -> str:
    """A namespace's executions, newest first."""
    return f"{INDEX_PREFIX}{_id(namespace)}/"


def parse_index_key(key: str) -> IndexedExecution:
    namespace, weeks, hours, rest, execution_id = _match(_INDEX, key)
    return IndexedExecution(namespace, execution_id, _from_newest_first(weeks + hours + rest))


def pending_key(namespace: str, created: datetime, execution_id: str) -> ObjectKey:
    """An empty object that says: this execution is not done with, or its news are not all sent."""
    return ObjectKey(f"{PENDING_PREFIX}{_milliseconds(created):013d}-{_id(namespace)}/{_id(execution_id)}")


def parse_pending_key(key: str) -> IndexedExecution:
    milliseconds, namespace, execution_id = _match(_PENDING, key)
    return IndexedExecution(namespace, execution_id, _EPOCH + timedelta(milliseconds=int(milliseconds)))


def definition_key(pipeline_id: str, version: str) -> ObjectKey:
    """A stored definition; written once, with `if_absent`."""
    return ObjectKey(f"{definitions_prefix(pipeline_id)}{_id(version)}")


def definitions_prefix(pipeline_id: str) -> str:
    """Every version of a pipeline, by version."""
    return f"{RESERVED}definitions/{_id(pipeline_id)}/versions/"


def newest_key(pipeline_id: str, created: datetime, version: str) -> ObjectKey:
    """An empty object in the list of a pipeline's versions that begins with the one stored last."""
    return ObjectKey(f"{newest_prefix(pipeline_id)}{_newest_first(created)}-{_id(version)}")


def newest_prefix(pipeline_id: str) -> str:
    """A pipeline's versions, the one stored last first."""
    return f"{RESERVED}definitions/{_id(pipeline_id)}/newest/"


def parse_newest_key(key: str) -> StoredVersion:
    pipeline_id, time, version = _match(_NEWEST, key)
    return StoredVersion(pipeline_id, version, _from_newest_first(time))


def pipeline_key(pipeline_id: str) -> ObjectKey:
    """The empty object that lists a pipeline id."""
    return ObjectKey(f"{PIPELINES_PREFIX}{_id(pipeline_id)}")


def is_reserved(key: str) -> bool:
    """Whether a key's first segment is the reserved name, in whatever case."""
    return key.split("/", 1)[0].casefold() == RESERVED[:-1]


def parse_user_key(text: str) -> ObjectKey:
    """A user's key: as `parse_key`, and not below the reserved prefix. Raises `InvalidKey`."""
    key = parse_key(text)
    if is_reserved(key):
        raise InvalidKey("an object key starts with a reserved name")
    return key


async def list_user_objects(
    store: ObjectStore, prefix: str, *, page_size: int = MAX_PAGE_SIZE, page_token: str | None = None
) -> Page:
    """As `store.list`, without the reserved objects; it jumps over them, however many there are.

    Raises `InvalidKey` for a prefix below the reserved one.
    """
    prefix = parse_prefix(prefix)
    if prefix.startswith(RESERVED):
        raise InvalidKey("a prefix starts with a reserved name")
    page = await store.list(prefix, page_size=page_size, page_token=page_token)
    visible = tuple(item for item in page.items if not item.key.startswith(RESERVED))
    if not page.items or not page.items[-1].key.startswith(RESERVED):
        return Page(visible, page.next_page_token)
    rest = await store.list(prefix, page_size=page_size - len(visible), start_after=_BEHIND_RESERVED)
    return Page(visible + rest.items, rest.next_page_token)


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise InvalidKey("an id is 1 to 128 of A-Z a-z 0-9 . _ - and neither '.' nor '..'")
    return text


def _match(pattern: re.Pattern[str], key: str) -> tuple[str, ...]:
    match = pattern.fullmatch(key)
    if match is None:
        raise InvalidKey("a key does not have the form of its prefix")
    return match.groups()


def _milliseconds(moment: datetime) -> int:
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= milliseconds <= _LAST_MILLISECOND:
        raise InvalidKey("a time is outside 1970 to 2286")
    return milliseconds


def _newest_first(moment: datetime) -> str:
    return f"{_LAST_MILLISECOND - _milliseconds(moment):013d}"


def _from_newest_first(text: str) -> datetime:
    return _EPOCH + timedelta(milliseconds=_LAST_MILLISECOND - int(text))
