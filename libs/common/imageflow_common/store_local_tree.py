"""The files beneath a local store: opened relative to folders, through no link; written whole or not at all.

    objects/…      the objects, as plain files (`store_local_names` says under which names)
    meta/<gen>     what belongs to one version of one object, as JSON, named by its generation
    tmp/<session>/ what one process is writing; locked while it lives, swept by the next to start
    locks/…        one lock per share of the keys
    layout.json    how names are spelt here

A generation is the file's inode, modification time and size. The metadata is written under that name first,
then the file is renamed (or linked) into place: this one step makes bytes and metadata visible together. A
reader holds the file open, so that its inode cannot be used again, while it looks for the metadata.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from imageflow_common.errors import DataLoss, FailedPrecondition, Unavailable, WriteConflict
from imageflow_common.store_local_names import Names

LAYOUT = 1
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a planted FIFO must not block us
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_LOCK_WAIT_SECONDS = 10.0
_ATTEMPTS = 100  # each lost only to a change by somebody else in the same instant
_PRUNED_LEVELS = 16
_META_BYTES = 1 << 20


class Tree:
    """One process's hold on a store's folder. Every method blocks; `OSError` passes through."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._durable = durable
        self._root = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
        self._objects = self._own_folder(self._root, "objects")
        self._meta = self._own_folder(self._root, "meta")
        self._locks = self._own_folder(self._root, "locks")
        self._tmp = self._own_folder(self._root, "tmp")
        with self.locked("start"):
            self.fold_case = self._read_layout()
            self._sweep()
            self._session_name = secrets.token_hex(8)
            self._session = self._own_folder(self._tmp, self._session_name)
            fcntl.flock(self._session, fcntl.LOCK_EX)

    def close(self) -> None:
        """Let go of the folder; what this process was still writing is removed."""
        self._clear(self._session)
        with suppress(OSError):
            os.rmdir(self._session_name, dir_fd=self._tmp)
        for fd in (self._session, self._tmp, self._locks, self._meta, self._objects, self._root):
            os.close(fd)

    # --- reading

    def open_version(self, names: Names) -> tuple[int, os.stat_result, dict[str, Any] | None]:
        """A descriptor, its status, and the metadata of just this version (None: another program's file).

        The caller closes the descriptor. Raises `FileNotFoundError` when there is no regular file.
        """
        before: str | None = None
        for _ in range(_ATTEMPTS):
            fd, status = self._open_regular(names)
            generation = generation_of(status)
            try:
                return fd, status, self._read_meta(generation)
            except FileNotFoundError:
                if generation == before:  # it stayed in place all the while, so it never had any
                    return fd, status, None
                before = generation
                os.close(fd)
            except BaseException:
                os.close(fd)
                raise
        raise Unavailable("the object changes faster than it can be read")

    def status(self, folder: int, name: str) -> os.stat_result | None:
        """The status of a regular file; None for anything else, links included."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    @contextmanager
    def folder(self, names: Names, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder `names` beneath `objects`, for as long as the block lasts."""
        fd = os.dup(self._objects)
        try:
            for name in names:
                below = self._descend(fd, name, create)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _open_regular(self, names: Names) -> tuple[int, os.stat_result]:
        with self.folder(names[:-1]) as folder:
            fd = os.open(names[-1], _FILE, dir_fd=folder)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        return fd, status

    def _read_meta(self, generation: str) -> dict[str, Any]:
        fd = os.open(generation, _FILE, dir_fd=self._meta)
        try:
            meta: dict[str, Any] = json.loads(os.read(fd, _META_BYTES))
            return meta
        except ValueError as exc:
            raise DataLoss("the metadata of a stored object is damaged") from exc
        finally:
            os.close(fd)

    def _descend(self, folder: int, name: str, create: bool) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
        return self._own_folder(folder, name)

    def _own_folder(self, parent: int, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            if self._durable:
                os.fsync(parent)
        return os.open(name, _FOLDER, dir_fd=parent)

    # --- writing

    def create_draft(self) -> tuple[int, str]:
        """A new file to write, and its name; the caller closes it and ends with `place` or `drop`."""
        name = secrets.token_hex(8)
        return os.open(name, _CREATE | os.O_EXCL, 0o666, dir_fd=self._session), name

    def finish_draft(self, fd: int, meta: dict[str, Any]) -> os.stat_result:
        """Seal what was written to `fd`, with its metadata."""
        now = time.time_ns()
        os.utime(fd, ns=(now, now))  # a kernel's own stamp may be milliseconds coarse
        status = os.fstat(fd)
        encoded = json.dumps(meta, ensure_ascii=False).encode()
        meta_fd = os.open(generation_of(status), _CREATE | os.O_TRUNC, 0o666, dir_fd=self._meta)
        try:
            write_all(meta_fd, memoryview(encoded))
            if self._durable:
                os.fsync(fd)
                os.fsync(meta_fd)  # ext4, XFS, Btrfs and APFS keep a new file's name with it
        finally:
            os.close(meta_fd)
        return status

    def place(self, draft: str, names: Names, *, if_absent: bool, if_generation: str | None) -> None:
        """Make a sealed draft the object `names`. Hold the key's lock. Raises `WriteConflict`."""
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError), self.folder(names[:-1], create=True) as folder:
                self._place_in(folder, names[-1], draft, if_absent, if_generation)
                return
            os.stat(draft, dir_fd=self._session)  # else a delete pruned the folder under our feet: again
        raise Unavailable("the folder of the object changes too fast")

    def _place_in(self, folder: int, name: str, draft: str, if_absent: bool, if_generation: str | None) -> None:
        if if_generation is not None and self._generation(folder, name) != if_generation:
            raise WriteConflict("the object is not at the expected generation")
        if if_absent:
            self._link_in(folder, name, draft)
        else:
            self._rename_in(folder, name, draft)
        if self._durable:
            os.fsync(folder)

    def _link_in(self, folder: int, name: str, draft: str) -> None:
        try:
            os.link(draft, name, src_dir_fd=self._session, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError as exc:
            raise WriteConflict("the object exists already") from exc

    def _rename_in(self, folder: int, name: str, draft: str) -> None:
        if self.status(folder, name) is None:
            os.rename(draft, name, src_dir_fd=self._session, dst_dir_fd=folder)
            return
        old = secrets.token_hex(8)  # a second name for the old version: whoever finds it knows its metadata
        os.link(name, old, src_dir_fd=folder, dst_dir_fd=self._session, follow_symlinks=False)
        try:
            os.rename(draft, name, src_dir_fd=self._session, dst_dir_fd=folder)
        finally:
            self.drop(old)

    def remove(self, names: Names, if_generation: str | None) -> None:
        """Remove the object `names`. Hold the key's lock. Raises `WriteConflict`."""
        old = secrets.token_hex(8)
        try:
            with self.folder(names[:-1]) as folder:
                current = self._generation(folder, names[-1])
                if if_generation not in (None, current):
                    raise WriteConflict("the object is not at the expected generation")
                if current is None:
                    return
                os.rename(names[-1], old, src_dir_fd=folder, dst_dir_fd=self._session)
                if self._durable:
                    os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError) as exc:
            if if_generation is not None:
                raise WriteConflict("the object is not at the expected generation") from exc
            return
        self.drop(old)
        self._prune(names[:-1])

    def drop(self, name: str) -> None:
        """Remove a file of this session; its metadata too, unless the file is in place under a key."""
        _drop(self._session, self._meta, name)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One holder at a time, of all threads and processes. Raises `Unavailable` after 10 s of waiting."""
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=self._locks)
        try:
            _wait_for(fd)
            yield
            fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child may hold a copy, which would keep it locked
        except BaseException:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            raise
        finally:
            os.close(fd)

    def _generation(self, folder: int, name: str) -> str | None:
        status = self.status(folder, name)
        return None if status is None else generation_of(status)

    def _prune(self, names: Names) -> None:
        for depth in range(len(names), max(0, len(names) - _PRUNED_LEVELS), -1):
            try:
                with self.folder(names[: depth - 1]) as folder:
                    os.rmdir(names[depth - 1], dir_fd=folder)
            except OSError:  # not empty, or gone already
                return

    # --- starting

    def _read_layout(self) -> bool:
        folds = self._folds_case()
        try:
            fd = os.open("layout.json", _FILE, dir_fd=self._root)
        except FileNotFoundError:
            self._write_layout(folds)
            return folds
        with os.fdopen(fd) as file:
            layout = json.load(file)
        if layout["layout"] != LAYOUT:
            raise FailedPrecondition("the store's folder has a layout that this version does not know")
        if folds and not layout["foldCase"]:
            raise FailedPrecondition("the store's folder was moved to a file system that ignores case")
        return bool(layout["foldCase"])

    def _write_layout(self, folds: bool) -> None:
        fd = os.open("layout.tmp", _CREATE | os.O_TRUNC, 0o666, dir_fd=self._root)
        try:
            write_all(fd, memoryview(json.dumps({"layout": LAYOUT, "foldCase": folds}).encode()))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename("layout.tmp", "layout.json", src_dir_fd=self._root, dst_dir_fd=self._root)

    def _folds_case(self) -> bool:
        try:
            os.stat("LOCKS", dir_fd=self._root)
        except FileNotFoundError:
            return False
        return True

    def _sweep(self) -> None:
        for name in os.listdir(self._tmp):
            try:
                fd = os.open(name, _FOLDER, dir_fd=self._tmp)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._clear(fd)
                os.rmdir(name, dir_fd=self._tmp)
            except BlockingIOError:
                pass  # its process lives
            finally:
                os.close(fd)

    def _clear(self, session: int) -> None:
        for name in os.listdir(session):
            _drop(session, self._meta, name)


def generation_of(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _drop(session: int, meta: int, name: str) -> None:
    try:
        status = os.stat(name, dir_fd=session, follow_symlinks=False)
    except FileNotFoundError:
        return  # it was renamed into place
    if status.st_nlink == 1:
        with suppress(FileNotFoundError):
            os.unlink(generation_of(status), dir_fd=meta)
    os.unlink(name, dir_fd=session)


def _wait_for(fd: int) -> None:
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    pause = 0.0002
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as exc:
            if time.monotonic() > deadline:
                raise Unavailable("the store is locked by another process") from exc
        time.sleep(pause)
        pause = min(pause * 2, 0.01)
