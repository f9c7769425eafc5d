"""A container engine is used where it can run the servers; else they are processes, and a line says why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from backends import engine
from backends.container import ContainedMinIO, start_either
from backends.running import running
from backends.server import CannotStart, Server

NAMED = "IMAGEFLOW_BACKENDS_ENGINE"
NO_IMAGE = 'case "$*" in ps*) exit;; image*) exit 1;; esac\n'
"""How a script begins that answers, and has no image."""
NO_RUNTIME = 'case "$1" in ps|image) exit;; esac; echo no runtime >&2; exit 1'


class Here(Server):
    """A process that needs nothing."""

    name = "here"

    def install(self) -> None:
        """Nothing."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", "import signal; signal.pause()"]

    def ready(self) -> bool:
        return True

    def settings(self) -> Mapping[str, str]:
        return {}


class Ways:
    """Both ways to a server, with the engine that `path` has."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.asked, self._path = path / "asked", path
        self.contained, self.process = ContainedMinIO(folder, pull_seconds=2), Here(folder)

    def engine(self, program: str, script: str) -> None:
        """Puts one there."""
        file = self._path / program
        file.write_text(f'#!/bin/sh\necho "$*" >>{self.asked}\n{script}\n')
        file.chmod(0o755)

    def start(self) -> Server:
        return start_either(self.contained, self.process)


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    """No engine is on the path, and nobody has said which to use."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv(NAMED, "")
    made = Ways(path, tmp_path / "server")
    yield made
    made.process.kill()


@pytest.mark.parametrize(
    ("script", "soon", "said"),
    [
        ("echo there is no daemon >&2; exit 1", "", "`docker ps` failed: there is no daemon"),
        ("exec /bin/sleep 600", "ANSWER_SECONDS", "`docker ps` did not end within 0.5 s"),
        (f"{NO_IMAGE}echo no such host >&2; exit 1", "", "docker cannot pull docker.io/minio/minio:"),
        (f"{NO_IMAGE}exec /bin/sleep 600", "QUIET_SECONDS", "`docker pull` said nothing for 0.5 s"),
        (
            f"{NO_IMAGE}while true; do echo; /bin/sleep 0.1; done",
            "",
            "`docker pull` did not end within 2 s",
        ),
        (NO_RUNTIME, "", "`docker create` failed: no runtime"),
    ],
    ids=["no daemon", "it hangs", "no network", "a pull that hangs", "a pull without end", "no runtime"],
)
def test_an_engine_that_cannot_is_asked_once(
    ways: Ways, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, script: str, soon: str, said: str
) -> None:
    """`soon` is the bound that is not waited for here."""
    if soon:
        monkeypatch.setattr(engine, soon, 0.5)
    ways.engine("docker", script)

    assert ways.start() is ways.process
    assert ways.process.runs_as()
    asked = ways.asked.read_text()
    ways.process.kill()
    assert ways.start() is ways.process

    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert ways.asked.read_text() == asked


def test_a_fixture_leaves_no_volume_of_an_engine_that_could_not(ways: Ways) -> None:
    ways.engine("docker", NO_RUNTIME)
    for server in running(ways.process, contained=ways.contained):
        assert server is ways.process
    assert ways.asked.read_text().splitlines()[-1] == f"volume rm --force {ways.contained.volume}"
    assert ways.process.runs_as() is None


def test_the_next_engine_is_asked_where_one_does_not_answer(ways: Ways, capsys: pytest.CaptureFixture[str]) -> None:
    ways.engine("docker", "echo there is no daemon >&2; exit 1")
    ways.engine("podman", f"{NO_IMAGE}echo no such host >&2; exit 1")
    assert ways.start() is ways.process
    assert "podman cannot pull" in capsys.readouterr().err


def test_an_engine_that_was_asked_for_is_not_done_without(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    ways.engine("docker", "echo there is no daemon >&2; exit 1")
    for named in ("docker", "podman", "nerdctl"):
        monkeypatch.setenv(NAMED, named)
        with pytest.raises(CannotStart):
            ways.start()
    assert ways.process.runs_as() is None


@pytest.mark.parametrize("named", ["", "none"])
def test_where_none_is_there_or_wanted_nothing_is_asked_or_said(
    ways: Ways, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    if named:
        monkeypatch.setenv(NAMED, named)
        ways.engine("docker", "exit 1")
    assert ways.start() is ways.process
    assert capsys.readouterr().err == ""
    assert not ways.asked.exists()


def test_a_process_that_runs_is_found_again_before_any_engine_is_asked(ways: Ways) -> None:
    ways.process.start()
    ways.engine("docker", "exit 1")
    assert ways.start() is ways.process
    assert not ways.asked.exists()
