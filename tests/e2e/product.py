"""The product as its users run it: `imageflow up` in a process of its own, watched from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil
import pytest

TREE = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
END_SECONDS = 60.0
_MARK = "E2E_MARK"

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 20.0, every: float = 0.02) -> T:
    """Polls until the condition holds; answers what it answered."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not come true within {within:g} s"
        time.sleep(every)
    return found


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one process holds."""

    pss_bytes: int
    threads: int
    descriptors: int


class Product:
    """A running `imageflow up`. Everything it starts inherits a mark in its environment, by which it is found."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.arguments, self.environment = arguments, environment or {}
        self.data = folder / "data"
        self.temporary, self.home = folder / "tmp", folder / "home"
        self.temporary.mkdir()
        self.home.mkdir()
        self.models = folder / "models"
        shutil.copytree(TREE / "models" / "coins", self.models / "coins", ignore=shutil.ignore_patterns("training"))
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        self._mark = uuid4().hex
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "imageflow_cli", "up", "--port", "0", "--data", str(self.data), *arguments],
                stdout=out,
                stderr=err,
                cwd=folder,
                env={
                    **clean_environment(),
                    "IMAGEFLOW_MODELS_DIRECTORY": str(self.models),
                    **self.environment,
                    "TMPDIR": str(self.temporary),
                    "HOME": str(self.home),
                    _MARK: self._mark,
                },
            )

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self._process.poll() is None, self.err
            return "ready at" in self._out.read_text()

        eventually(ready, within=START_SECONDS)
        self.url = str(re.search(r"ready at (http://\S+)", self._out.read_text())[1])  # type: ignore[index]
        self.port = int(self.url.rpartition(":")[2])
        self.shared = Path(self._state()["shared_directory"])

    def pids(self) -> dict[str, int]:
        """Of what runs now, by name; 0 for what has died and starts again soon."""
        return {each["name"]: each["pid"] for each in self._state()["processes"]}

    def address(self, name: str) -> str:
        return next(str(each["address"]) for each in self._state()["processes"] if each["name"] == name)

    def footprints(self) -> dict[str, Footprint]:
        return {name: _footprint(pid) for name, pid in self.pids().items()}

    def shared_names(self) -> set[str]:
        """Of the files that the services share in memory."""
        return {path.name for path in self.shared.rglob("*") if path.is_file()}

    def end(self) -> int:
        """Asks it to end, by its pid; answers its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(END_SECONDS)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def marked_pids(self) -> set[int]:
        """Of every process that it has started, and of itself."""
        return {each.pid for each in psutil.process_iter() if _has_mark(each, self._mark)}

    def left_behind(self) -> list[str]:
        """Processes, shared memory, temporary files and files at home that outlived it."""
        processes = [f"process {pid}" for pid in self.marked_pids()]
        memory = [str(self.shared)] if self.shared.exists() else []
        folders = (self.temporary, self.home, self.data / "run")
        files = [str(path) for folder in folders for path in folder.rglob("*")]
        return [*processes, *memory, *files]

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_bytes())
        return state


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A product that runs already, such as in containers, and is only seen by its gateway on this machine."""

    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def data(self) -> Path:
        """Not here: who asks for it is skipped."""
        pytest.skip("not by the gateway alone: it looks at files of an `imageflow up`")

    def footprints(self) -> dict[str, Footprint]:
        return {}

    def shared_names(self) -> set[str]:
        return set()


def clean_environment() -> dict[str, str]:
    """Ours without what would steer the product."""
    steering = ("IMAGEFLOW_", "OTEL_", "GRPC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)}


def imageflow(*arguments: str, cwd: Path | str | None = None, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """The command, once."""
    return subprocess.run(
        [sys.executable, "-m", "imageflow_cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or tempfile.gettempdir(),
        env=clean_environment(),
        timeout=seconds,
        check=False,
    )


def _footprint(pid: int) -> Footprint:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pss = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert pss, rollup
    folder = Path(f"/proc/{pid}")
    return Footprint(int(pss[1]) * 1024, len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir())))


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
