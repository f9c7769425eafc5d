"""The folder of one `imageflow up`: whose it is, what runs, and the files that live as long as it runs.

DIR/up.lock         held while it runs
DIR/run/            files of the running processes, gone afterwards
DIR/run/state.json  what runs
DIR/store/          the object store
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SHARED_PREFIX: Final = "imageflow-up-"
_TMPFS = Path("/dev/shm")  # noqa: S108  # named for what it is; the folder in it is ours alone


class DataInUse(Exception):
    """Another `imageflow up` runs on this folder."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process of a running `up`; pid 0: it has died and starts again soon."""

    name: str
    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class UpState:
    """What runs. `ready`: every service has answered at least once."""

    url: str
    pid: int
    ready: bool
    shared_directory: str
    processes: tuple[RunningProcess, ...]


class DataDirectory:
    """The folder, while it is ours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def store(self) -> Path:
        return self.path / "store"

    def write_state(self, state: UpState) -> None:
        """Replaces the state file, whole at any moment."""
        temporary = self.run / "state.json.tmp"
        temporary.write_text(json.dumps(asdict(state), indent=2))
        temporary.replace(_state_file(self.path))


@contextlib.contextmanager
def claim(path: Path) -> Iterator[DataDirectory]:
    """Makes the folder ours; tidies what an `up` that was killed left there. Raises DataInUse, and OSError where
    the folder cannot be made or written."""
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "up.lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DataInUse(f"{path} is in use by another `imageflow up`{_owner(path)}") from exc
        _sweep(path)
        directory = DataDirectory(path)
        directory.run.mkdir()
        directory.store.mkdir(exist_ok=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory.run, ignore_errors=True)


@contextlib.contextmanager
def shared_memory() -> Iterator[Path]:
    """A fresh folder in memory where there is such a thing, else a temporary one; gone afterwards."""
    parent = _TMPFS if os.access(_TMPFS, os.W_OK | os.X_OK) else None
    path = Path(tempfile.mkdtemp(prefix=SHARED_PREFIX, dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def read_state(path: Path) -> UpState | None:
    """What runs on this folder; None: nothing does."""
    if not _is_held(path):
        return None
    try:
        fields = json.loads(_state_file(path).read_bytes())
        processes = tuple(RunningProcess(**each) for each in fields.pop("processes"))
        return UpState(**fields, processes=processes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(path: Path) -> bool:
    try:
        with open(path / "up.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _owner(path: Path) -> str:
    state = read_state(path)
    return f" (process {state.pid}, {state.url})" if state else ""


def _sweep(path: Path) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        left = Path(json.loads(_state_file(path).read_bytes())["shared_directory"])
        # The file may have been written by anybody who can write here: remove only what we would have made.
        if left.name.startswith(SHARED_PREFIX) and left.parent in (_TMPFS, Path(tempfile.gettempdir())):
            shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(path / "run", ignore_errors=True)


def _state_file(path: Path) -> Path:
    return path / "run" / "state.json"
