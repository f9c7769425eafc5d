"""What happened, in order, across processes that are killed: one line appended in one write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEDGER_VARIABLE = "CRASH_LEDGER"


@dataclass(frozen=True, slots=True)
class Entry:
    """`time` is that of the system's monotonic clock, which all processes share."""

    time: float
    what: str
    execution_id: str
    words: tuple[str, ...]


class Ledger:
    """Appends entries; any number of processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, what: str, execution_id: str, *words: object) -> None:
        line = " ".join([repr(time.monotonic()), what, execution_id or "-", *map(str, words)])
        os.write(self._fd, f"{line}\n".encode())


def read_ledger(path: Path, *, start: int = 0, end: int | None = None) -> Iterator[Entry]:
    """The entries between two bytes, at which entries begin or end."""
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read(-1 if end is None else end - start).decode().splitlines()
    for line in lines:
        moment, what, execution_id, *words = line.split(" ")
        yield Entry(float(moment), what, execution_id, tuple(words))
