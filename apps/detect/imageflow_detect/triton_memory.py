"""System shared memory for tensors, where Triton runs on this machine
(https://github.com/triton-inference-server/server, "System Shared Memory Extension").

A region is a file of `/dev/shm` that this process writes an image to and Triton its answer. It is reserved whole, so
that neither finds the memory full in the middle, and registered with Triton once. The file is locked while its owner
lives: what a process that was killed has left behind is told by that, and swept.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from imageflow_common.owned_files import alone_in, is_owned

DIRECTORY: Final = Path("/dev/shm")  # noqa: S108 - where shm_open looks, on Linux
PREFIX: Final = "imageflow-triton-"
MAX_REGIONS: Final = 16
_STEP_BYTES: Final = 1 << 20
_LOOK_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 2.0


class CannotRegister(Exception):
    """Triton does not see this memory, or cannot be asked."""


class InUse(CannotRegister):
    """A request in Triton still uses it."""


class Registrar(Protocol):
    """Triton's side of it. Registering what is registered, and unregistering what is not, does nothing."""

    def register(self, name: str, size_bytes: int) -> None:
        """Raises CannotRegister."""

    def unregister(self, name: str) -> None:
        """Raises InUse while a request in Triton still uses the region, CannotRegister when Triton does not answer."""


@dataclass(slots=True, eq=False)
class Region:
    """One file of shared memory, mapped. Removed from the file system by `discard`; memory that Triton has mapped goes
    when it is unregistered."""

    name: str
    size_bytes: int
    bytes: npt.NDArray[np.uint8]
    _lock: int
    registered: bool = False

    @classmethod
    def create(cls, size_bytes: int, directory: Path) -> Region:
        """Raises OSError where there is no room, or no such directory."""
        name = f"{PREFIX}{secrets.token_hex(8)}"
        with alone_in(directory):
            fd = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            mapped = mmap.mmap(fd, size_bytes)
        except OSError:
            (directory / name).unlink(missing_ok=True)
            os.close(fd)
            raise
        return cls(name, size_bytes, np.frombuffer(mapped, np.uint8), fd)

    def discard(self, directory: Path) -> None:
        (directory / self.name).unlink(missing_ok=True)
        os.close(self._lock)


@dataclass(slots=True)
class TensorMemory:
    """Regions for requests in flight, each used by one at a time; safe to use from any thread.

    A request that ended without Triton's answer may still be read from and written to its region: that region is
    *doubtful*, and used by nobody until Triton has let go of it. At most `max_regions` are held, doubtful ones
    included; past that, and wherever memory cannot be shared, tensors travel inline.
    """

    registrar: Registrar
    directory: Path = DIRECTORY
    max_regions: int = MAX_REGIONS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free: list[Region] = field(default_factory=list)
    _doubtful: list[Region] = field(default_factory=list)
    _in_use: int = 0
    _refused: bool = False
    _closed: bool = False
    _looked_at: float = 0.0

    @contextmanager
    def lend(self, size_bytes: int) -> Iterator[Region | None]:
        """A registered region of at least this size for the block, or None: then send it inline. Whatever the block
        raises makes the region doubtful."""
        region = self._take(size_bytes)
        if region is None:
            yield None
            return
        try:
            yield region
        except BaseException:
            self._give_back(region, self._doubtful)
            raise
        self._give_back(region, self._free)

    def forget(self) -> None:
        """Triton has been started anew, perhaps: everything is registered again when it is next used."""
        with self._lock:
            self._refused = False
            for region in self._free:
                region.registered = False

    def sweep(self) -> None:
        """Removes what processes that are no more have left, in Triton and here; what a request of theirs still uses,
        the next sweep."""
        for name in _names(self.directory):
            if _is_left_behind(self.directory / name):
                self._sweep_one(name)

    def _sweep_one(self, name: str) -> None:
        try:
            self.registrar.unregister(name)
        except InUse:
            return
        except CannotRegister:
            pass  # a Triton that is away knows nothing of it either
        with suppress(FileNotFoundError, PermissionError):  # swept by another, or another user's
            (self.directory / name).unlink()

    def close(self) -> None:
        """Unregisters and removes every region that nobody uses; one in use, when it is given back. A Triton that does
        not answer is not waited for long."""
        with self._lock:
            self._closed = True
            regions = [*self._free, *self._doubtful]
            self._free, self._doubtful = [], []
        until = monotonic() + _CLOSE_SECONDS
        for region in regions:
            if monotonic() < until:
                self._remove(region)
            else:
                region.discard(self.directory)

    def _take(self, size_bytes: int) -> Region | None:
        self._clear_doubtful()
        with self._lock:
            if self._refused or self._closed:
                return None
            region = min((r for r in self._free if r.size_bytes >= size_bytes), key=_size, default=None)
            if region is not None:
                self._free.remove(region)
            self._in_use += 1
        region = region or self._new(size_bytes)
        if region is None:
            with self._lock:
                self._in_use -= 1
        elif not region.registered and not self._register(region):
            self._give_back(region, self._doubtful)
            return None
        return region

    def _new(self, size_bytes: int) -> Region | None:
        """None where there are enough, or where there is no room for one."""
        with self._lock:
            full = self._in_use + len(self._free) + len(self._doubtful) > self.max_regions
            unfit = self._free.pop() if full and self._free else None
        if unfit is not None:
            self._remove(unfit)
        elif full:
            return None
        try:
            return Region.create(-(-size_bytes // _STEP_BYTES) * _STEP_BYTES, self.directory)
        except OSError:
            return None

    def _register(self, region: Region) -> bool:
        """Whether it is registered. Once Triton has refused, nothing is asked of it until it is started anew."""
        try:
            self.registrar.register(region.name, region.size_bytes)
        except CannotRegister:
            with self._lock:
                self._refused = True
            return False
        region.registered = True
        return True

    def _give_back(self, region: Region, to: list[Region]) -> None:
        with self._lock:
            self._in_use -= 1
            closed = self._closed
            if not closed:
                to.append(region)
        if closed:
            self._remove(region)

    def _clear_doubtful(self) -> None:
        """Asks for each whether Triton has let go of it, not too often."""
        with self._lock:
            if not self._doubtful or monotonic() < self._looked_at + _LOOK_SECONDS:
                return
            self._looked_at = monotonic()
            doubtful, self._doubtful = self._doubtful, []
        kept = []
        for number, region in enumerate(doubtful):
            try:
                self.registrar.unregister(region.name)
            except InUse:
                kept.append(region)
            except CannotRegister:
                kept += doubtful[number:]
                break
            else:
                region.discard(self.directory)
        with self._lock:
            self._doubtful.extend(kept)

    def _remove(self, region: Region) -> None:
        with suppress(CannotRegister):
            self.registrar.unregister(region.name)
        region.discard(self.directory)


def _size(region: Region) -> int:
    return region.size_bytes


def _names(directory: Path) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.startswith(PREFIX)]
    except OSError:
        return []


def _is_left_behind(file: Path) -> bool:
    """Whether it is a region whose owner is no more. What others have put there under such a name is none."""
    try:
        with alone_in(file.parent):
            return stat.S_ISREG(file.lstat().st_mode) and not is_owned(file)
    except OSError:
        return False
