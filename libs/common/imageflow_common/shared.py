"""Shared memory: files in a directory that services on one machine share, on a tmpfs.

A file is written under a temporary name and renamed, so a reader never sees half of one. Names are flat, opened
relative to the directory without following links. A reference is a capability: whoever wants a component to follow
a name must show what a capability file in that directory holds, and may only name files that begin with its name.
"""

from __future__ import annotations

import contextlib
import hmac
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import FailedPrecondition, PermissionDenied, StorageFull

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
_TEMPORARY_PREFIX = ".tmp-"
_SECRET_BYTES = 32


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

    def close(self) -> None:
        os.close(self._fd)

    def write(self, name: str, data: memoryview | bytes) -> None:
        """Writes a file whole. Raises StorageFull when memory is short."""
        _check_name(name)
        temporary = f"{_TEMPORARY_PREFIX}{name}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=self._fd)
        try:
            _write_all(fd, memoryview(data).cast("B"))
        except OSError as exc:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._fd)
            raise StorageFull("shared memory is full") from exc
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def read(self, name: str, size_bytes: int) -> memoryview:
        """Maps a file read-only. Raises FailedPrecondition where it is not there or not of that size."""
        _check_name(name)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except OSError as exc:
            raise FailedPrecondition("no such shared memory", reason="SHARED_MEMORY_MISSING") from exc
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size_bytes or size_bytes == 0:
                raise FailedPrecondition("shared memory of another size", reason="SHARED_MEMORY_MISSING")
            return memoryview(mmap.mmap(fd, size_bytes, prot=mmap.PROT_READ))
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Removes a file and what a writer may have left half-written; nothing happens where there is none."""
        _check_name(name)
        for each in (name, f"{_TEMPORARY_PREFIX}{name}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each, dir_fd=self._fd)

    def names(self) -> Iterator[str]:
        return iter(os.listdir(self._fd))

    def grant(self, owner: str) -> Capability:
        """Writes a new capability file for `owner`, who may then name files `{owner}.…`."""
        capability = Capability(owner, secrets.token_hex(_SECRET_BYTES))
        self.write(capability.name, capability.secret.encode())
        return capability

    def verify(self, capability: Capability, name: str | None = None) -> None:
        """Raises PermissionDenied unless the capability holds, and covers `name`."""
        if not self._holds(capability):
            raise PermissionDenied("shared memory needs a capability", reason="CAPABILITY_REQUIRED")
        if name is not None and not name.startswith(f"{capability.name}."):
            raise PermissionDenied("the capability does not cover this name", reason="CAPABILITY_REQUIRED")

    def sweep(self, owner: str) -> None:
        """Removes every file that `owner` left."""
        for name in self.names():
            bare = name.removeprefix(_TEMPORARY_PREFIX)
            if bare == owner or bare.startswith(f"{owner}."):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._fd)

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
