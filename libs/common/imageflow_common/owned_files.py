"""Files that are locked while the process that made them lives, so that others can tell what a killed one has left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(directory: Path | str, *, dir_fd: int | None = None) -> Iterator[None]:
    """While this holds, nobody else who asks for it is between making a file there and locking it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_owned(file: Path | str, *, dir_fd: int | None = None) -> bool:
    """Whether who locked it lives. Waits for nothing, whatever stands there under that name. Raises OSError where it
    cannot be opened, or is a link."""
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
