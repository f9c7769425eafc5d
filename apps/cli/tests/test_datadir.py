"""Whose a data folder is, and what is left in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imageflow_cli.datadir import DataInUse, RunningProcess, UpState, claim, read_state, shared_memory
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
    left = shared_memory()
    memory = left.__enter__()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text(json.dumps({"shared_directory": str(memory)}))
    with claim(tmp_path):
        assert not memory.exists()
    left.__exit__(None, None, None)


def test_only_what_an_up_would_have_made_is_tidied(tmp_path: Path) -> None:
    precious = tmp_path / "imageflow-up-precious"
    precious.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text(json.dumps({"shared_directory": str(precious)}))
    with claim(tmp_path):
        assert precious.exists()


def test_shared_memory_is_private_and_goes_away() -> None:
    with shared_memory() as path:
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "file").write_bytes(b"x")
    assert not path.exists()


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free("127.0.0.1", port) for port in ports)
