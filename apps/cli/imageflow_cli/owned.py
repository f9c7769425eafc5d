"""Folders that go with the process that made them: at its end, or, when it was killed, at the next one's start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OWNER_LOCK: Final = "owner.lock"


@contextlib.contextmanager
def owned_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A fresh folder in `parent`, by default where temporary files go; gone afterwards. Folders beside it whose owners
    were killed, and could not remove them, go now."""
    parent = parent or Path(tempfile.gettempdir())
    _remove_ownerless(parent, prefix)
    made = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
    with open(made / _OWNER_LOCK, "x") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Only now has it a name that others look for: nobody finds it without its lock held.
        path = made.rename(parent / made.name.removeprefix("."))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def is_locked(path: Path) -> bool:
    """Raises OSError when there is no such file."""
    with open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _remove_ownerless(parent: Path, prefix: str) -> None:
    """Removes folders of this user that `owned_folder` made in `parent`, and whose locks nobody holds."""
    for path in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not is_locked(path / _OWNER_LOCK):
                shutil.rmtree(path, ignore_errors=True)
