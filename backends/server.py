"""One server, as a process of this machine: started detached, found again by its pid file, ended by its process id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psutil

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class CannotStart(Exception):
    """The server could not be had or did not become ready; the message says why."""


class Server(ABC):
    """A server whose state, ports and log live in `directory`, so that it starts again as it was.

    A subclass says how it is installed, started, asked whether it is ready, and reached.
    """

    name: ClassVar[str]
    ports_needed: ClassVar[tuple[str, ...]] = ("main",)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ports = kept_ports(directory / "ports.json", self.ports_needed)

    @abstractmethod
    def install(self) -> None:
        """Have what `command` needs in the cache; quick when it is there. Raises `CannotStart`."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What to run, listening on 127.0.0.1 at `self.ports` alone."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers a client. Never raises for a server that is still starting."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The environment with which `imageflow up` uses it."""

    def environment(self) -> Mapping[str, str]:
        """The server's own environment."""
        return os.environ

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """What has to be written under `directory` before each start; nothing by default."""

    def start(self) -> None:
        """Install it, start it where it isn't running, and wait until it is ready. Raises `CannotStart`."""
        self.install()
        if self.runs_as() is None:
            self.prepare()
            self._launch()
        self.wait_until_ready()

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        until = time.monotonic() + seconds
        while not self.ready():
            if self.runs_as() is None:
                raise CannotStart(f"{self.name} ended while starting:\n{self._last_lines()}")
            if time.monotonic() > until:
                raise CannotStart(f"{self.name} was not ready after {seconds:g} s:\n{self._last_lines()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, then make it."""
        process = self.process()
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and its children at once."""
        process = self.process()
        if process is None:
            return
        for each in [*process.children(recursive=True), process]:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait(STOP_SECONDS)

    def discard(self) -> None:
        """End it at once, and leave nothing of it outside `directory`."""
        self.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def runs_as(self) -> str | None:
        """What it runs as and where its log is, in words; None where it does not run."""
        process = self.process()
        return None if process is None else f"process {process.pid}, log in {self.directory / 'log'}"

    def process(self) -> psutil.Process | None:
        """The running process, None when there is none (another process with its old id is not it)."""
        try:
            known = json.loads((self.directory / "process.json").read_text())
            process = psutil.Process(known["pid"])
            if process.create_time() == known["created"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return None

    def _running(self) -> psutil.Process:
        process = self.process()
        if process is None:
            raise CannotStart(f"{self.name} is not running")
        return process

    def _launch(self) -> None:
        with (self.directory / "log").open("ab") as log:
            started = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        created = psutil.Process(started.pid).create_time()
        (self.directory / "process.json").write_text(json.dumps({"pid": started.pid, "created": created}))

    def _last_lines(self) -> str:
        log = self.directory / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else "(no log)"


def kept_ports(file: Path, names: Sequence[str]) -> Mapping[str, int]:
    """The ports of `names` as `file` has them from an earlier start, and new ones for those that it lacks."""
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in names if name not in kept]
    ports = {**kept, **dict(zip(missing, free_ports(len(missing)), strict=True))}
    if missing:
        file.write_text(json.dumps(ports))
    return {name: ports[name] for name in names}


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
