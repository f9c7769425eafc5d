"""The orchestrator, which kills itself with SIGKILL at a point of `points.py`, the n-th time that it comes there.

    CRASH_LEDGER=FILE CRASH_POINT=artifact:after CRASH_COUNT=2 CRASH_CLOCK=FILE \\
        python -m tests.crash.crashing_orchestrator

All of this is in wrappers that are put around the real parts: the product has no code for it. Only the ledger is
needed; it tells what was stored and published, and at SIGWINCH how many asyncio tasks there are. CRASH_CLOCK is a file
with the seconds that the clock is wrong by, read at each look.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from imageflow_common import store_local_tree
from imageflow_common.events import Event, LocalEvents
from imageflow_common.keys import INDEX_PREFIX, PENDING_PREFIX, RESERVED
from imageflow_common.store import BytesLike, ObjectInfo, ObjectKey, ObjectReader, ObjectStore, Page, StoredObject
from imageflow_common.store_local import LocalStore
from imageflow_orchestrator import records

from .ledger import LEDGER_VARIABLE, Ledger
from .points import COUNT_VARIABLE, POINT_VARIABLE, POINTS

CLOCK_VARIABLE = "CRASH_CLOCK"

_RECORDS_PREFIX = f"{RESERVED}records/"
_ENDED = ("COMPLETED", "FAILED", "CANCELLED")


class Crash:
    """The point to die at, and how often it is passed before."""

    def __init__(self, ledger: Ledger, point: str, count: int) -> None:
        if point and point not in POINTS:
            raise SystemExit(f"there is no point {point!r}")
        self._ledger = ledger
        self._point = point
        self._left = count
        self._within = ""

    def at(self, point: str, execution_id: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            self._die(execution_id)

    def within(self, point: str, execution_id: str) -> None:
        """Dies when the next draft of an object is complete and not yet in its place."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                self._within = execution_id

    def placing(self) -> None:
        if self._within:
            self._die(self._within)

    def _die(self, execution_id: str) -> NoReturn:
        self._ledger.write("killed", execution_id, self._point)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL came back")


class CrashingStore:
    """A store that dies where it is told, and keeps a ledger of records."""

    def __init__(self, store: ObjectStore, crash: Crash, ledger: Ledger) -> None:
        self._store = store
        self._crash = crash
        self._ledger = ledger
        self._running: set[str] = set()

    async def put(
        self, key: ObjectKey, data: BytesLike | AsyncIterable[bytes], *, media_type: str, **options: Any
    ) -> ObjectInfo:
        record = json.loads(bytes(data)) if key.startswith(_RECORDS_PREFIX) else None  # type: ignore[arg-type]
        write, execution_id = self._name(key, record, new=bool(options.get("if_absent")))
        self._crash.at(f"{write}:before", execution_id)
        self._crash.within(f"{write}:within", execution_id)
        info = await self._store.put(key, data, media_type=media_type, **options)
        if record is not None:
            self._note(record, execution_id)
        self._crash.at(f"{write}:after", execution_id)
        return info

    async def delete(self, key: ObjectKey, *, if_generation: str | None = None) -> None:
        marker, execution_id = key.startswith(PENDING_PREFIX), key.rpartition("/")[2]
        if marker:
            self._crash.at("marker-removed:before", execution_id)
        await self._store.delete(key, if_generation=if_generation)
        if marker:
            self._crash.at("marker-removed:after", execution_id)

    async def get(self, key: ObjectKey) -> StoredObject:
        return await self._store.get(key)

    def open(
        self, key: ObjectKey, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return self._store.open(key, start=start, end=end)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        return await self._store.head(key)

    async def list(self, prefix: str, **options: Any) -> Page:
        return await self._store.list(prefix, **options)

    async def close(self) -> None:
        await self._store.close()

    def _name(self, key: str, record: Mapping[str, Any] | None, *, new: bool) -> tuple[str, str]:
        """Of the write, and the execution it belongs to."""
        last = key.rpartition("/")[2]
        if key.startswith(PENDING_PREFIX):
            return "marker", last
        if key.startswith(INDEX_PREFIX):
            return "index", last.partition("-")[2]
        if record is not None:
            return self._record_name(record, last, new=new), last
        if key.endswith(".json"):
            return "metadata", _execution_of(key)
        return ("artifact" if key.startswith("artifacts/") else "output"), _execution_of(key)

    def _record_name(self, record: Mapping[str, Any], execution_id: str, *, new: bool) -> str:
        if new:
            return "record-created"
        if record["execution"]["status"] in _ENDED:
            return "terminal-record"
        if execution_id not in self._running:
            self._running.add(execution_id)
            return "running-record"
        return "checkpoint"

    def _note(self, record: Mapping[str, Any], execution_id: str) -> None:
        steps = record.get("steps", {})
        if steps:
            self._ledger.write("stored", execution_id, *sorted(steps))
        if record["execution"]["status"] in _ENDED:
            self._running.discard(execution_id)
            self._ledger.write("ended", execution_id, record["execution"]["status"])


class CrashingEvents(LocalEvents):
    """The bus, which dies where it is told. What the ledger has was published."""

    def __init__(self, crash: Crash, ledger: Ledger) -> None:
        super().__init__()
        self._crash = crash
        self._ledger = ledger

    async def publish(self, event: Event) -> None:
        what = "completion" if event.topic == "pipeline-completions" else "progress"
        self._crash.at(f"{what}:before", event.key)
        await super().publish(event)
        if what == "completion":
            self._ledger.write(what, event.key, event.number, json.loads(event.body)["status"])
        self._crash.at(f"{what}:after", event.key)


def _execution_of(key: str) -> str:
    """`artifacts/{namespace}/{execution}/…`, or an output that is named for its execution."""
    parts = key.split("/")
    return parts[2] if parts[0] == "artifacts" and len(parts) > 2 else parts[-1].partition("!")[0]


def _wrong_clock(file: Path) -> None:
    """Before anything else has taken `now` from there."""
    right = records.now

    def now() -> datetime:
        return right() + timedelta(seconds=float(file.read_text() or 0) if file.exists() else 0)

    records.now = now


def main() -> None:
    if clock := os.environ.get(CLOCK_VARIABLE):
        assert "imageflow_orchestrator.app" not in sys.modules
        _wrong_clock(Path(clock))
    from imageflow_orchestrator import app
    from imageflow_orchestrator.call import GrpcCaller
    from imageflow_orchestrator.stores import store_directory

    ledger = Ledger(Path(os.environ[LEDGER_VARIABLE]))
    crash = Crash(ledger, os.environ.get(POINT_VARIABLE, ""), int(os.environ.get(COUNT_VARIABLE, "1")))

    class CrashingCaller(GrpcCaller):
        async def process(self, target: Any, method: str, request: Any, *, timeout: float) -> Any:
            crash.at("call:before", request.context.execution_id)
            answer = await super().process(target, method, request, timeout=timeout)
            crash.at("call:after", request.context.execution_id)
            return answer

    place = store_local_tree.Tree.place

    def placing(tree: Any, *arguments: Any, **options: Any) -> None:
        crash.placing()
        place(tree, *arguments, **options)

    changed: Any = app

    async def open_store(settings: Any) -> CrashingStore:
        return CrashingStore(LocalStore(store_directory(settings.store_url)), crash, ledger)

    changed.open_store = open_store
    changed.LocalEvents = lambda: CrashingEvents(crash, ledger)
    changed.GrpcCaller = CrashingCaller
    serve = app.serve

    async def counted(*settings: Any) -> None:
        def count() -> None:
            ledger.write("tasks", "", len(asyncio.all_tasks()))

        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, count)
        await serve(*settings)

    changed.serve = counted
    store_local_tree.Tree.place = placing  # type: ignore[assignment, method-assign]
    app.main()


if __name__ == "__main__":
    main()
