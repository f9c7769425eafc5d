"""A container engine, docker or podman, by its command line. Every command has an end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass

from backends.server import CannotStart

NAMED = "IMAGEFLOW_BACKENDS_ENGINE"
PROGRAMS = ("docker", "podman")
ANSWER_SECONDS = 10.0
QUIET_SECONDS = 60.0
"""How long a pull may say nothing."""
_COMMAND_SECONDS = 60.0


class NoEngine(CannotStart):
    """None is there, or none is wanted."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Its commands raise CannotStart where they fail or do not end."""

    program: str

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        seconds: float = _COMMAND_SECONDS,
        merged: bool = False,
    ) -> str:
        """Answers what it printed; `merged`: on standard error too."""
        command = [self.program, *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=tempfile.gettempdir(),  # where podman notes that memory ran out
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except OSError as exc:
            raise CannotStart(f"{self.program} cannot be run: {exc}") from exc
        except subprocess.TimeoutExpired as exc:
            raise CannotStart(f"`{self.program} {arguments[0]}` did not end within {seconds:g} s") from exc
        if done.returncode:
            raise CannotStart(f"`{self.program} {arguments[0]}` failed: {_last_line(done.stderr or done.stdout)}")
        return done.stdout

    def lists(self, container: str, *, ended: bool = False) -> bool:
        """Whether it runs; `ended`: or is there, at least."""
        which = ["--all"] if ended else []
        found = self.run("ps", *which, "--quiet", "--no-trunc", f"--filter=id={container}", seconds=ANSWER_SECONDS)
        return container in found.split()

    def fetch(self, image: str, *, seconds: float) -> None:
        """Pulls it where it is not there yet, within so long."""
        try:
            self.run("image", "inspect", image, seconds=ANSWER_SECONDS)
        except CannotStart:
            self._pull(image, seconds)

    def _pull(self, image: str, seconds: float) -> None:
        with tempfile.NamedTemporaryFile() as said:
            pulling = subprocess.Popen(
                [self.program, "pull", image], stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
            )
            try:
                self._wait_while_it_talks(pulling, said.name, seconds)
            finally:
                pulling.kill()
                pulling.wait()
            if pulling.returncode:
                with open(said.name, errors="replace") as file:
                    raise CannotStart(f"{self.program} cannot pull {image}: {_last_line(file.read())}")

    def _wait_while_it_talks(self, pulling: subprocess.Popen[bytes], said: str, seconds: float) -> None:
        """Returns when it has ended. Raises CannotStart past either bound."""
        began = heard = time.monotonic()
        size = 0
        while pulling.poll() is None:
            now = time.monotonic()
            if (grown := os.path.getsize(said)) != size:
                size, heard = grown, now
            if now - heard > QUIET_SECONDS:
                raise CannotStart(f"`{self.program} pull` said nothing for {QUIET_SECONDS:g} s")
            if now - began > seconds:
                raise CannotStart(f"`{self.program} pull` did not end within {seconds:g} s")
            time.sleep(0.05)


def find_engine() -> Engine:
    """The one that the environment names, else the first that answers. Raises NoEngine where there is none, and
    CannotStart where one is there that does not answer."""
    named = os.environ.get(NAMED, "")
    if named == "none":
        raise NoEngine(f"{NAMED} is none")
    if named and named not in PROGRAMS:
        raise CannotStart(f"{NAMED} is {named}; it may be {', '.join((*PROGRAMS, 'none'))}")
    engines = [Engine(program) for program in ([named] if named else PROGRAMS) if shutil.which(program)]
    faults: list[CannotStart] = []
    for engine in engines:
        try:
            engine.run("ps", "--quiet", seconds=ANSWER_SECONDS)
        except CannotStart as fault:
            faults.append(fault)
        else:
            return engine
    if named and not engines:
        raise CannotStart(f"{NAMED} is {named}, which is not on the PATH")
    if faults:
        raise CannotStart("; ".join(map(str, faults)))
    raise NoEngine(f"there is no {' or '.join(PROGRAMS)} on the PATH")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(it says nothing)"])[-1][:300]
