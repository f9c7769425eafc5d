"""Shared memory: files in a directory that services on one machine share, on a tmpfs.

A new file is written under a temporary name and renamed, so a reader never sees half of one; whoever has a file
written over sees to it that nobody reads it meanwhile. Names are flat, opened relative to the directory without
following links. A reference is a capability: whoever wants a component to follow a name must show what a capability
file in that directory holds, and may only name files that begin with its name.
Who was granted a capability keeps its file locked, so that others know when it is dead, and may sweep what it left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hmac
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import FailedPrecondition, ImageFlowError, PermissionDenied, StorageFull
from .owned_files import alone_in, is_owned

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TEMPORARY_PREFIX = ".imageflow-"
_SECRET_BYTES = 32
_SECRET = re.compile(rb"[0-9a-f]{%d}" % (2 * _SECRET_BYTES))
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Capability:
    """The name of a file in the shared directory, and what it holds."""

    name: str
    secret: str

    def __repr__(self) -> str:
        return f"Capability(name={self.name!r})"


class SharedDirectory:
    """The files of one directory. All calls are short and block: memory, not disk."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._granted: list[int] = []

    def close(self) -> None:
        """Gives up the capabilities that were granted."""
        for fd in (*self._granted, self._fd):
            os.close(fd)

    def write(self, name: str, data: memoryview | bytes) -> None:
        """Writes a file: over what is there when that is at least as large, else a new one, whole. A file that is
        written over is never made smaller, since it may be mapped. Raises StorageFull when memory is short, and
        ImageFlowError where something that is not ours stands in the way."""
        _check_name(name)
        view = memoryview(data).cast("B")
        if not self._write_over(name, view):
            os.close(self._write(name, view, lock=False))

    def read(self, name: str, size_bytes: int) -> memoryview:
        """Maps the first bytes of a file read-only. Raises FailedPrecondition where it is not there or is smaller."""
        _check_name(name)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except OSError as exc:
            raise FailedPrecondition("no such shared memory", reason="SHARED_MEMORY_MISSING") from exc
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size < size_bytes or size_bytes == 0:
                raise FailedPrecondition("shared memory of a smaller size", reason="SHARED_MEMORY_MISSING")
            return memoryview(mmap.mmap(fd, size_bytes, prot=mmap.PROT_READ))
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Removes a file and what a writer may have left half-written; nothing happens where there is none."""
        _check_name(name)
        self._remove_all([name, f"{_TEMPORARY_PREFIX}{name}"])

    def names(self) -> Iterator[str]:
        return iter(os.listdir(self._fd))

    def grant(self, owner: str) -> Capability:
        """Writes a new capability file for `owner`, who may then name files `{owner}.…`. It holds until `close`."""
        if not _OWNER.fullmatch(owner):
            raise ValueError(f"not a name for an owner: {owner!r}")
        capability = Capability(owner, secrets.token_hex(_SECRET_BYTES))
        with alone_in(".", dir_fd=self._fd):
            self._granted.append(self._write(owner, memoryview(capability.secret.encode()), lock=True))
        return capability

    def verify(self, capability: Capability, name: str | None = None) -> None:
        """Raises PermissionDenied unless the capability holds, and covers `name`."""
        if not self._holds(capability):
            raise PermissionDenied("shared memory needs a capability", reason="CAPABILITY_REQUIRED")
        if name is not None and not name.startswith(f"{capability.name}."):
            raise PermissionDenied("the capability does not cover this name", reason="CAPABILITY_REQUIRED")

    def sweep(self, owner: str) -> None:
        """Removes every file that `owner` left."""
        self._remove_all(name for name in self.names() if _owner_of(name) == owner)

    def sweep_dead(self) -> None:
        """Removes the capabilities of processes that are no more, with all their files, and the temporary files that
        belong to nobody. Files that are not ours stay."""
        with alone_in(".", dir_fd=self._fd):
            names = list(self.names())
            capabilities = {name for name in names if self._is_capability(name)}
            dead = {name for name in capabilities if not self._is_granted(name)}
            alive = capabilities - dead
        self._remove_all(
            name
            for name in names
            if _owner_of(name) in dead or (name.startswith(_TEMPORARY_PREFIX) and _owner_of(name) not in alive)
        )

    def _write_over(self, name: str, data: memoryview) -> bool:
        """False where there is no regular file of that name and at least that size."""
        try:
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except OSError:
            return False
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size < len(data):
                return False
            _write_all(fd, data)
        except OSError as exc:
            raise _cannot_write(exc) from exc
        finally:
            os.close(fd)
        return True

    def _write(self, name: str, data: memoryview, *, lock: bool) -> int:
        """Writes a file under a temporary name that nothing may have, and renames it. Answers its descriptor."""
        temporary = f"{_TEMPORARY_PREFIX}{name}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._fd)
        except OSError as exc:
            raise _cannot_write(exc) from exc
        try:
            if lock:
                fcntl.flock(fd, fcntl.LOCK_EX)
            _write_all(fd, data)
            os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as exc:
            os.close(fd)
            self._remove_all([temporary])
            raise _cannot_write(exc) from exc
        return fd

    def _remove_all(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                os.unlink(name, dir_fd=self._fd)

    def _is_capability(self, name: str) -> bool:
        if not _OWNER.fullmatch(name):
            return False
        try:
            with self.read(name, 2 * _SECRET_BYTES) as held:
                return _SECRET.fullmatch(held) is not None
        except FailedPrecondition:
            return False

    def _is_granted(self, name: str) -> bool:
        try:
            return is_owned(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False

    def _holds(self, capability: Capability) -> bool:
        if not _NAME.fullmatch(capability.name) or not capability.secret:
            return False
        try:
            with self.read(capability.name, 2 * _SECRET_BYTES) as held:
                return hmac.compare_digest(bytes(held), capability.secret.encode())
        except FailedPrecondition:
            return False


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise PermissionDenied("not a name of shared memory", reason="CAPABILITY_REQUIRED")


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _owner_of(name: str) -> str:
    return name.removeprefix(_TEMPORARY_PREFIX).partition(".")[0]


def _cannot_write(cause: OSError) -> ImageFlowError:
    if cause.errno in _NO_ROOM:
        return StorageFull("shared memory is full")
    return ImageFlowError("shared memory cannot be written")
