"""Values of metrics' labels, bounded: what callers can choose may not make a time series of its own without end."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"


class BoundedLabel:
    """Lets the first `limit` values through, and calls every further one `other`. Used from one event loop or thread;
    a race lets a value more through, nothing else."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value
