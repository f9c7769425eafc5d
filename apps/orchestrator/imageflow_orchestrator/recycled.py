"""Files in shared memory that nobody reads any more, kept for a moment to be written again.

A new file costs its pages, and their zeroing and freeing: 0.5 ms for a megabyte, five times what writing over an old
one does. Kept are those freed last, up to so many bytes and seconds; an idle orchestrator keeps none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class _Free:
    name: str
    capacity_bytes: int
    since: float


class RecycledFiles:
    """Names of free files. A file has the capacity of the largest image that was ever written to it."""

    def __init__(self, max_bytes: int, max_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._free: deque[_Free] = deque()  # the one freed last at the end
        self._free_bytes = 0
        self._lent: dict[str, int] = {}

    @property
    def names(self) -> frozenset[str]:
        """The files that are free."""
        return frozenset(file.name for file in self._free)

    def take(self) -> str | None:
        """The file freed last, now the caller's; None when there is none."""
        if not self._free:
            return None
        file = self._free.pop()
        self._free_bytes -= file.capacity_bytes
        self._lent[file.name] = file.capacity_bytes
        return file.name

    def give(self, name: str, size_bytes: int) -> bool:
        """Takes back a file that holds at least so many bytes; False when it is not to be kept."""
        capacity = max(size_bytes, self._lent.pop(name, 0))
        if self._free_bytes + capacity > self._max_bytes:
            return False
        self._free.append(_Free(name, capacity, monotonic()))
        self._free_bytes += capacity
        return True

    def forget(self, name: str) -> None:
        """The file was removed."""
        self._lent.pop(name, None)

    def take_unused(self) -> list[str]:
        """The files that have been free for too long, now the caller's to remove."""
        oldest = monotonic() - self._max_seconds
        names = []
        while self._free and self._free[0].since <= oldest:
            file = self._free.popleft()
            self._free_bytes -= file.capacity_bytes
            names.append(file.name)
        return names
