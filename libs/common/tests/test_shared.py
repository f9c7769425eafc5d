"""Shared memory: names are flat, references are capabilities, and what the dead leave is swept."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.small_disk import small_disk
from imageflow_common.errors import FailedPrecondition, ImageFlowError, PermissionDenied, StorageFull
from imageflow_common.shared import Capability, SharedDirectory

HOLDER = """
import sys
from pathlib import Path
from imageflow_common.shared import SharedDirectory
shared = SharedDirectory(Path(sys.argv[1]))
shared.grant("o-other")
shared.write("o-other.1", b"x")
print("granted", flush=True)
sys.stdin.read()
"""
BAD_NAMES = ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", ".hidden", "-x", "ü", "x" * 202, "a\n"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedDirectory]:
    directory = SharedDirectory(tmp_path / "shm")
    yield directory
    directory.close()


@pytest.fixture
def folder(shared: SharedDirectory, tmp_path: Path) -> Path:
    return tmp_path / "shm"


def test_what_is_written_is_read(shared: SharedDirectory, folder: Path) -> None:
    shared.write("o.1", memoryview(b"pixels"))
    with shared.read("o.1", 6) as data:
        assert bytes(data) == b"pixels"
        assert data.readonly
    assert os.listdir(folder) == ["o.1"]
    assert (folder / "o.1").stat().st_mode & 0o077 == 0


def test_what_is_mapped_outlives_its_name(shared: SharedDirectory) -> None:
    shared.write("o.1", b"pixels")
    data = shared.read("o.1", 6)
    shared.remove("o.1")
    assert bytes(data) == b"pixels"


def test_a_file_that_is_large_enough_is_written_over_and_never_made_smaller(
    shared: SharedDirectory, folder: Path
) -> None:
    shared.write("o.1", b"pixels")
    mapped, inode = shared.read("o.1", 6), (folder / "o.1").stat().st_ino
    shared.write("o.1", b"abc")
    assert ((folder / "o.1").stat().st_ino, (folder / "o.1").stat().st_size) == (inode, 6)
    with shared.read("o.1", 3) as data:
        assert bytes(data) == b"abc"
    assert bytes(mapped) == b"abcels"


def test_a_file_that_is_too_small_is_replaced_and_its_readers_keep_it(shared: SharedDirectory) -> None:
    shared.write("o.1", b"abc")
    mapped = shared.read("o.1", 3)
    shared.write("o.1", b"pixels")
    with shared.read("o.1", 6) as data:
        assert bytes(data) == b"pixels"
    assert bytes(mapped) == b"abc"


def test_a_file_with_another_name_elsewhere_is_replaced(shared: SharedDirectory, folder: Path, tmp_path: Path) -> None:
    shared.write("o.1", b"pixels")
    os.link(folder / "o.1", tmp_path / "elsewhere")
    shared.write("o.1", b"abcdef")
    assert (tmp_path / "elsewhere").read_bytes() == b"pixels"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_flat_is_refused(shared: SharedDirectory, name: str) -> None:
    for use in (lambda: shared.write(name, b"x"), lambda: shared.read(name, 1), lambda: shared.remove(name)):
        with pytest.raises(PermissionDenied):
            use()


@pytest.mark.parametrize("said", [7, 0, 2**40])
def test_a_file_smaller_than_said_is_refused(shared: SharedDirectory, said: int) -> None:
    shared.write("o.1", b"pixels")
    with pytest.raises(FailedPrecondition):
        shared.read("o.1", said)


def test_a_file_cut_short_is_refused(shared: SharedDirectory, folder: Path) -> None:
    shared.write("o.1", b"pixels")
    os.truncate(folder / "o.1", 3)
    with pytest.raises(FailedPrecondition):
        shared.read("o.1", 6)


def test_links_pipes_and_folders_are_not_read(shared: SharedDirectory, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "o.link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "o.pipe")
    (folder / "o.folder").mkdir()
    for name in ("o.link", "o.pipe", "o.folder", "o.missing"):
        with pytest.raises(FailedPrecondition) as raised:
            shared.read(name, 6)
        assert raised.value.reason == "SHARED_MEMORY_MISSING"


def test_a_link_in_the_way_of_a_write_is_not_followed(shared: SharedDirectory, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    (folder / "o.1").symlink_to(outside)
    (folder / ".imageflow-o.2").symlink_to(outside)
    shared.write("o.1", b"pixels")
    assert not (folder / "o.1").is_symlink()
    with pytest.raises(ImageFlowError):
        shared.write("o.2", b"pixels")
    assert outside.read_bytes() == b"untouched"


def test_a_pipe_or_folder_in_the_way_of_a_write_is_an_error_at_once(shared: SharedDirectory, folder: Path) -> None:
    os.mkfifo(folder / ".imageflow-o.1")
    (folder / "o.2").mkdir()
    for name in ("o.1", "o.2"):
        with pytest.raises(ImageFlowError) as raised:
            shared.write(name, b"pixels")
        assert raised.value.code == "INTERNAL"
        assert str(folder) not in raised.value.message
    assert sorted(os.listdir(folder)) == [".imageflow-o.1", "o.2"]


def test_removing_removes_what_is_half_written_too(shared: SharedDirectory, folder: Path) -> None:
    shared.write("o.1", b"x")
    (folder / ".imageflow-o.1").write_bytes(b"half")
    shared.remove("o.1")
    shared.remove("o.1")
    assert os.listdir(folder) == []


def test_full_memory_is_said_and_leaves_nothing(
    shared: SharedDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "write", no_room)
    with pytest.raises(StorageFull):
        shared.write("o.1", b"pixels")
    assert os.listdir(folder) == []


def test_a_full_tmpfs_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as folder:
        directory = SharedDirectory(folder)
        directory.write("o.1", bytes(16 * 1024))
        with pytest.raises(StorageFull):
            directory.write("o.2", bytes(128 * 1024))
        assert os.listdir(folder) == ["o.1"]
        directory.close()


def test_a_capability_covers_the_names_of_its_owner_and_no_other(shared: SharedDirectory) -> None:
    capability = shared.grant("o1")
    shared.grant("o12")
    shared.verify(capability)
    shared.verify(capability, "o1.5")
    for name in ("o1", "o12", "o12.5", "o1-5", "5.o1", ""):
        with pytest.raises(PermissionDenied):
            shared.verify(capability, name)


def test_a_capability_that_does_not_hold_is_refused(shared: SharedDirectory, folder: Path) -> None:
    held = shared.grant("o1")
    other = shared.grant("o2")
    (folder / "o3").symlink_to(folder / "o1")
    for forged in (
        Capability("", ""),
        Capability("o1", ""),
        Capability("o1", "0" * 64),
        Capability("o1", other.secret),
        Capability("o1", held.secret + "0"),
        Capability("o1", "é"),
        Capability("o9", held.secret),
        Capability("../shm/o1", held.secret),
        Capability("o3", held.secret),
    ):
        with pytest.raises(PermissionDenied):
            shared.verify(forged)


def test_a_secret_is_not_shown() -> None:
    assert "hunter2" not in repr(Capability("o1", "hunter2"))


@pytest.mark.parametrize("owner", ["", "o.1", "../o", ".o", "o/1"])
def test_a_name_that_could_be_a_file_of_another_is_no_owner(shared: SharedDirectory, owner: str) -> None:
    with pytest.raises(ValueError, match="not a name for an owner"):
        shared.grant(owner)


def test_an_owner_sweeps_all_its_own_and_nothing_else(shared: SharedDirectory, folder: Path) -> None:
    shared.grant("o1")
    for name in ("o1.1", "o12.1", "o2"):
        shared.write(name, b"x")
    (folder / ".imageflow-o1.2").write_bytes(b"half")
    shared.sweep("o1")
    assert sorted(os.listdir(folder)) == ["o12.1", "o2"]


@contextlib.contextmanager
def _holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that was granted `o-other` and wrote `o-other.1`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "granted\n"
            yield process
        finally:
            process.kill()


def test_what_the_living_own_is_not_swept(shared: SharedDirectory, folder: Path) -> None:
    shared.grant("o1")
    shared.write("o1.1", b"x")
    (folder / ".imageflow-o1.2").write_bytes(b"being written")
    with _holder(folder):
        before = sorted(os.listdir(folder))
        shared.sweep_dead()
        assert sorted(os.listdir(folder)) == before


def test_what_the_killed_left_is_swept(shared: SharedDirectory, folder: Path) -> None:
    shared.grant("o1")
    with _holder(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    (folder / ".imageflow-o-other.2").write_bytes(b"half")
    (folder / ".imageflow-o-gone.1").write_bytes(b"half")
    shared.sweep_dead()
    assert os.listdir(folder) == ["o1"]


def test_what_is_not_ours_is_not_swept(shared: SharedDirectory, folder: Path) -> None:
    (folder / "database").write_bytes(b"x" * 64)
    (folder / "database.1").write_bytes(b"x")
    (folder / "notes").write_bytes(b"y")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    before = sorted(os.listdir(folder))
    shared.sweep_dead()
    assert sorted(os.listdir(folder)) == before


def test_a_capability_ends_with_its_directory(shared: SharedDirectory, tmp_path: Path, folder: Path) -> None:
    ended = SharedDirectory(tmp_path / "shm")
    ended.grant("o1")
    ended.write("o1.1", b"x")
    ended.close()
    shared.sweep_dead()
    assert os.listdir(folder) == []
