"""How long a call may take, and whether anybody still waits for it: set where a call begins, asked where it waits for
somebody else."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic


class Lifetime:
    """One call's, asked and ended from any thread."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._end = monotonic() + seconds
        self._lock = threading.Lock()
        self._given_up = False
        self._told: list[Callable[[], object]] = []

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the call any more."""
        return self._given_up

    def remaining(self) -> float:
        """Seconds until the deadline, 0 when it has passed, infinite where there is none."""
        return max(0.0, self._end - monotonic())

    def give_up(self) -> None:
        """Tells whatever the call waits for that nobody waits for the call; again does nothing."""
        with self._lock:
            told, self._told, self._given_up = self._told, [], True
        for tell in told:
            tell()

    @contextmanager
    def on_give_up(self, tell: Callable[[], object]) -> Iterator[None]:
        """For the block: `tell` is called, by the thread that gives up, when the call is given up; at once if it is
        already."""
        with self._lock:
            late = self._given_up
            if not late:
                self._told.append(tell)
        if late:
            tell()
        try:
            yield
        finally:
            with self._lock:
                if tell in self._told:
                    self._told.remove(tell)


_FOREVER = Lifetime()
_current: ContextVar[Lifetime] = ContextVar("lifetime", default=_FOREVER)


def current_lifetime() -> Lifetime:
    """That of the call which this thread works for; without one, a lifetime that does not end."""
    return _current.get()


@contextmanager
def living(lifetime: Lifetime) -> Iterator[None]:
    """For the block, this is the current lifetime."""
    token = _current.set(lifetime)
    try:
        yield
    finally:
        _current.reset(token)
