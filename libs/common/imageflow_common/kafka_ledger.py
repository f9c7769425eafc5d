"""Which messages of a partition are in hand, and how far it is done: pure bookkeeping, for one thread at a time."""

from __future__ import annotations

from collections import deque


class Ledger:
    """Messages are given out in the order of their offsets and settled in any. An offset may be committed when it and
    all before it are settled: what is open is given again after a crash."""

    def __init__(self) -> None:
        self._given: deque[int] = deque()
        self._settled: set[int] = set()
        self._next: int | None = None
        self._committed: int | None = None

    def __len__(self) -> int:
        """Messages given out that cannot be committed yet."""
        return len(self._given)

    @property
    def open(self) -> int:
        """Messages given out and not settled."""
        return len(self._given) - len(self._settled)

    @property
    def done(self) -> int | None:
        """The offset of the first message that is not settled; None before one was given."""
        return self._given[0] if self._given else self._next

    def give(self, offset: int) -> None:
        """Raises ValueError for an offset that does not come after the last."""
        if self._given and offset <= self._given[-1]:
            raise ValueError("offsets must rise")
        self._given.append(offset)

    def settle(self, offset: int) -> None:
        self._settled.add(offset)
        while self._given and self._given[0] in self._settled:
            first = self._given.popleft()
            self._settled.discard(first)
            self._next = first + 1

    def to_commit(self) -> int | None:
        """The offset to go on from after a crash, where it is past the one committed."""
        return self._next if self._next != self._committed else None

    def committed(self, offset: int) -> None:
        self._committed = offset
