"""Whose a data folder is, and what is left in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imageflow_cli.datadir import DataInUse, DataUnusable, RunningProcess, UpState, claim, read_state, shared_memory
from imageflow_cli.ports import free_ports, is_free

STATE = UpState("http://127.0.0.1:1", 7, True, "/dev/shm/x", (RunningProcess("resize", 8, "127.0.0.1:2"),))


def test_a_folder_belongs_to_one_up_at_a_time(tmp_path: Path) -> None:
    with claim(tmp_path / "data") as directory:
        directory.write_state(STATE)
        with pytest.raises(DataInUse, match=r"in use by another `imageflow up` \(process 7, http://127.0.0.1:1\)"):
            claim(tmp_path / "data").__enter__()
    with claim(tmp_path / "data"):
        pass


def test_the_state_is_there_as_long_as_it_runs(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    with claim(tmp_path) as directory:
        assert read_state(tmp_path) is None
        directory.write_state(STATE)
        assert read_state(tmp_path) == STATE
    assert read_state(tmp_path) is None
    assert not (tmp_path / "run").exists()


def test_what_a_killed_up_left_is_tidied_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{}")
    with claim(tmp_path) as directory:
        assert not list(directory.run.iterdir())


@pytest.mark.parametrize("path", ["/proc/x", "/dev/null/x"])
def test_a_folder_that_cannot_be_made_is_named_with_the_reason(path: str) -> None:
    with pytest.raises(DataUnusable, match=f"cannot keep data in {path}: [A-Z][a-z ]+; choose another folder"):
        claim(Path(path)).__enter__()


_HOLDS_SHARED_MEMORY = """
import sys
from pathlib import Path
from imageflow_cli.datadir import shared_memory
with shared_memory(Path(sys.argv[1])) as path:
    (path / "shared").mkdir()
    (path / "shared" / "image").write_bytes(b"x")
    print(path, flush=True)
    sys.stdin.read()
"""


def test_shared_memory_of_a_killed_owner_goes_when_another_starts_and_that_of_a_living_one_stays(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", _HOLDS_SHARED_MEMORY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        memory = Path(owner.stdout.readline().strip())
        with shared_memory(tmp_path):
            assert (memory / "shared" / "image").exists()
        owner.kill()
        owner.wait()
    assert memory.exists()
    with shared_memory(tmp_path) as path:
        assert list(tmp_path.iterdir()) == [path]


def test_only_what_an_up_has_made_is_removed(tmp_path: Path) -> None:
    precious, link = tmp_path / "imageflow-up-precious", tmp_path / "imageflow-up-link"
    precious.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner.lock").touch()
    link.symlink_to(elsewhere)
    with shared_memory(tmp_path):
        assert precious.exists()
        assert (elsewhere / "owner.lock").exists()


def test_shared_memory_is_private_and_goes_away() -> None:
    with shared_memory() as path:
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "file").write_bytes(b"x")
    assert not path.exists()


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free("127.0.0.1", port) for port in ports)
