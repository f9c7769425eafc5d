"""How many executions run at once, whose turn is next, and when to refuse (R75).

Slots are bounded overall and for each namespace. Those who wait are served by priority, each class in proportion to
its weight so that none starves; within a class namespaces take turns; within a namespace first come, first served.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from enum import IntEnum

from imageflow_common.errors import Overloaded

_RETRY_AFTER = timedelta(seconds=1)


class Priority(IntEnum):
    """The class of an execution; its value is its weight: of 21 turns that all want, how many are its own."""

    SYNCHRONOUS = 16
    ASYNCHRONOUS = 4
    BATCH = 1


class _Class:
    """Those of one priority who wait, by namespace in the order of their next turn."""

    def __init__(self, weight: int) -> None:
        self.step = 1.0 / weight
        self.time = 0.0  # of this class: grows with each turn it takes, the slower the heavier
        self.namespaces: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def add(self, namespace: str, waiter: asyncio.Future[None]) -> None:
        self.namespaces.setdefault(namespace, deque()).append(waiter)

    def remove(self, namespace: str, waiter: asyncio.Future[None]) -> bool:
        """Whether the waiter was still waiting."""
        queue = self.namespaces.get(namespace, deque())
        if waiter not in queue:
            return False
        queue.remove(waiter)
        if not queue:
            del self.namespaces[namespace]
        return True

    def take(self, namespace: str) -> asyncio.Future[None]:
        """The next of a namespace, which then goes to the end of the line."""
        queue = self.namespaces.pop(namespace)
        waiter = queue.popleft()
        if queue:
            self.namespaces[namespace] = queue
        return waiter


class Admission:
    """Slots for executions. Used from one event loop."""

    def __init__(
        self,
        *,
        max_running: int,
        max_waiting: int,
        max_running_per_namespace: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._bytes = ByteBudget(max_bytes)
        self._classes = {priority: _Class(priority) for priority in Priority}
        self._running: dict[str, int] = {}
        self._waiting = 0
        self.change(
            max_running=max_running,
            max_waiting=max_waiting,
            max_running_per_namespace=max_running_per_namespace,
            max_bytes=max_bytes,
        )

    def change(
        self,
        *,
        max_running: int,
        max_waiting: int,
        max_running_per_namespace: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Other bounds from now on. Who waits and fits within them has his turn at once; what runs, waits or is held
        past them goes on."""
        self.max_running = max_running
        self._max_per_namespace = max_running_per_namespace or max_running
        self._max_waiting = max_waiting
        self._bytes.max_bytes = max_bytes
        self._grant()

    @property
    def running(self) -> int:
        """Slots that are taken."""
        return sum(self._running.values())

    @property
    def waiting(self) -> int:
        """Executions that wait for a slot."""
        return self._waiting

    @asynccontextmanager
    async def slot(
        self, namespace: str = "default", priority: Priority = Priority.SYNCHRONOUS, *, size_bytes: int = 0
    ) -> AsyncIterator[Slot]:
        """Waits for a turn. Raises Overloaded for a synchronous execution when too many wait already, or when the
        `size_bytes` that it holds in memory are too many beside the others'; what was accepted before waits as long as
        it must."""
        if priority is Priority.SYNCHRONOUS and self._waiting >= self._max_waiting and not self._free(namespace):
            raise Overloaded(f"{self._waiting} executions are waiting", retry_after=_RETRY_AFTER)
        slot = Slot(self, namespace, priority)
        with self._bytes.hold(size_bytes):
            await slot.acquire()
            try:
                yield slot
            finally:
                slot.release()

    async def acquire(self, namespace: str, priority: Priority) -> None:
        """Waits for a turn; the bounded, polite way is `slot`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._classes[priority]
        self._join(waiting)
        waiting.add(namespace, waiter)
        self._waiting += 1
        self._grant()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(namespace)
            elif waiting.remove(namespace, waiter):
                self._waiting -= 1
            raise

    def release(self, namespace: str) -> None:
        """Gives a slot back."""
        self._running[namespace] -= 1
        if not self._running[namespace]:
            del self._running[namespace]
        self._grant()

    def _free(self, namespace: str) -> bool:
        return self.running < self.max_running and self._running.get(namespace, 0) < self._max_per_namespace

    def _join(self, waiting: _Class) -> None:
        """A class that had nobody waiting gains nothing from the time it was away."""
        if not waiting.namespaces:
            others = [other.time for other in self._classes.values() if other.namespaces]
            waiting.time = max(waiting.time, min(others, default=waiting.time))

    def _grant(self) -> None:
        while self.running < self.max_running and (chosen := self._next()) is not None:
            waiting, namespace = chosen
            waiter = waiting.take(namespace)
            self._waiting -= 1
            if waiter.cancelled():
                continue
            waiting.time += waiting.step
            self._running[namespace] = self._running.get(namespace, 0) + 1
            waiter.set_result(None)

    def _next(self) -> tuple[_Class, str] | None:
        for waiting in sorted(self._classes.values(), key=lambda each: each.time):
            for namespace in waiting.namespaces:
                if self._running.get(namespace, 0) < self._max_per_namespace:
                    return waiting, namespace
        return None


class ByteBudget:
    """Bounds the bytes of images that executions hold in memory, running and waiting; None: no bound."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Raises Overloaded when the budget is used up. One image is always taken: other limits refuse it."""
        if self.max_bytes is not None and self._held and self._held + size_bytes > self.max_bytes:
            raise Overloaded(f"images of {self._held} bytes are in flight", retry_after=_RETRY_AFTER)
        self._held += size_bytes
        try:
            yield
        finally:
            self._held -= size_bytes


class Slot:
    """One execution's turn, which it may give back while it only waits, and ask for again."""

    def __init__(self, admission: Admission, namespace: str, priority: Priority) -> None:
        self._admission = admission
        self._namespace = namespace
        self._priority = priority
        self._held = False
        self._asking = asyncio.Lock()

    async def acquire(self) -> None:
        """Nothing happens when it is held. Any number may ask for it at once: it is one slot."""
        if self._held:
            return
        async with self._asking:
            if not self._held:
                await self._admission.acquire(self._namespace, self._priority)
                self._held = True

    def release(self) -> None:
        """Nothing happens when it is not held."""
        if self._held:
            self._held = False
            self._admission.release(self._namespace)
