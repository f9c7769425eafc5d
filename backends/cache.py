"""Where servers are installed once, outside the tree, and found again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """`IMAGEFLOW_BACKENDS_CACHE`, else `imageflow-backends` in the user's cache directory."""
    named = os.environ.get("IMAGEFLOW_BACKENDS_CACHE")
    if named:
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imageflow-backends"


@contextmanager
def installing(name: str) -> Iterator[Path]:
    """The folder of one installation, held by nobody else for the block. It may be there already, whole or not:
    what marks it whole is `finish`.
    """
    folder = cache_directory() / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def finished(folder: Path, version: str) -> bool:
    """Whether `finish` was called for this version."""
    mark = folder / "installed"
    return mark.is_file() and mark.read_text() == version


def finish(folder: Path, version: str) -> None:
    (folder / "installed").write_text(version)
