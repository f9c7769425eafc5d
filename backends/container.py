"""A server in a container of its maker's image: published on 127.0.0.1 alone, bounded in memory, with its data in a
volume of its own, found again and ended by its id."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

import yaml

from backends.certificates import make_certificates
from backends.engine import NAMED, Engine, NoEngine, find_engine
from backends.kafka import KafkaServer
from backends.minio import VARIABLES, MinIO
from backends.server import STOP_SECONDS, CannotStart, Server

COMPOSE = Path(__file__).resolve().parent.parent / "compose.yaml"
S = TypeVar("S", bound=Server)


def image_of(name: str) -> str:
    """The image of a service, as compose.yaml has it."""
    return str(yaml.safe_load(COMPOSE.read_text())["services"][name]["image"])


def start_either(contained: S, process: S) -> S:
    """Starts the process if it runs already, else the container, else the process. Raises CannotStart."""
    if process.runs_as() is None and with_engine(contained, contained.start):
        return contained
    process.start()
    return process


def with_engine(server: Server, act: Callable[[], None]) -> bool:
    """Whether that could be done. An engine that cannot is asked no more, and standard error says why in a line. Raises
    CannotStart where the environment names it."""
    try:
        act()
    except NoEngine:
        return False
    except CannotStart as fault:
        with suppress(CannotStart):
            server.kill()
        if os.environ.get(NAMED):
            raise
        print(f"{server.name}: not in a container: {' '.join(str(fault).split())}", file=sys.stderr)
        os.environ[NAMED] = "none"
        return False
    return True


class Contained(Server):
    """Stands before the class of the same server as a process, whose ports it has; `command` is what follows the
    image."""

    memory: ClassVar[str]
    kept: ClassVar[str]
    """The folder of the container that outlives it."""
    options: ClassVar[Sequence[str]] = ()

    def __init__(self, directory: Path, *, pull_seconds: float = 600.0) -> None:
        super().__init__(directory)
        self._pull_seconds = pull_seconds

    @abstractmethod
    def variables(self) -> Mapping[str, str]:
        """The container's own environment."""

    def install(self) -> None:
        if self.runs_as() is None:
            self._remove()
            engine = find_engine()
            engine.fetch(image_of(self.name), seconds=self._pull_seconds)
            self._remember(engine, "")

    def runs_as(self) -> str | None:
        engine, container = self._remembered()
        if engine is None or not container or not engine.lists(container):
            return None
        return f"container {container[:12]}, log by `{engine.program} logs {container[:12]}`"

    def stop(self) -> None:
        if self.runs_as():
            self.resume()
            self._asked("stop", "-t", f"{STOP_SECONDS:.0f}")
        self._remove()

    def kill(self) -> None:
        if self.runs_as():
            self._asked("kill")
        self._remove()

    def discard(self) -> None:
        """See Server: its volume, too, where the engine can."""
        self.kill()
        engine, _ = self._remembered()
        if engine:
            with suppress(CannotStart):
                engine.run("volume", "rm", "--force", self.volume)

    def pause(self) -> None:
        self._asked("kill", "--signal=STOP")

    def resume(self) -> None:
        self._asked("kill", "--signal=CONT")

    def _launch(self) -> None:
        engine, _ = self._remembered()
        assert engine is not None
        variables = self.variables()
        created = engine.run(
            *("create", "--pull=never", f"--label=imageflow.backends={self.directory}", f"--memory={self.memory}"),
            *(f"--publish=127.0.0.1:{port}:{port}" for port in self.ports.values()),
            *(f"--volume={self.volume}:{self.kept}", *(f"--env={name}" for name in variables), *self.options),
            *(image_of(self.name), *self.command()),
            environment=variables,
        )
        self._remember(engine, created.strip())
        self._asked("start")

    def _remove(self) -> None:
        """Keeps its log where that of a process is."""
        engine, container = self._remembered()
        if engine is None or not container:
            return
        if engine.lists(container, ended=True):
            with (self.directory / "log").open("a") as log:
                log.write(self._asked("logs"))
            self._asked("rm", "--force", "--volumes")
        self._remember(engine, "")

    def _last_lines(self) -> str:
        return self._asked("logs", "--tail=15")

    def _asked(self, *arguments: str) -> str:
        """What its engine says when it is asked for this with the container. Raises CannotStart."""
        engine, container = self._remembered()
        if engine is None or not container:
            raise CannotStart(f"{self.name} is not running")
        return engine.run(*arguments, container, merged=True)

    @property
    def volume(self) -> str:
        """Its name."""
        return f"imageflow-{self.name}-{hashlib.sha256(str(self.directory.absolute()).encode()).hexdigest()[:12]}"

    @property
    def _file(self) -> Path:
        return self.directory / "container.json"

    def _remember(self, engine: Engine, container: str) -> None:
        self._file.write_text(json.dumps({"engine": engine.program, "id": container}))

    def _remembered(self) -> tuple[Engine | None, str]:
        """The engine that was used last, and the container: empty where there is none."""
        if not self._file.exists():
            return None, ""
        known = json.loads(self._file.read_text())
        return Engine(known["engine"]), known["id"]


class ContainedMinIO(Contained, MinIO):
    memory, kept = "1g", "/data"

    def variables(self) -> Mapping[str, str]:
        return VARIABLES

    def command(self) -> Sequence[str]:
        return ["server", self.kept, "--address", f":{self.ports['main']}", "--quiet"]


class ContainedKafka(Contained, KafkaServer):
    """Its image's Java and jars, started as those of the process are: with all the listeners and users."""

    memory, kept = "1g", "/var/lib/kafka/data"
    options = ("--entrypoint=sh", "--workdir=/tmp")
    bound = "0.0.0.0"
    jars, data, keystore = Path("/opt/kafka/libs"), Path(kept), Path("/tmp/server.pem")

    def prepare(self) -> None:
        if not self.ca_file.exists():
            make_certificates(self.ca_file.parent)

    def variables(self) -> Mapping[str, str]:
        return {"PROPERTIES": self.properties(), "KEYSTORE": super().keystore.read_text()}

    def command(self) -> Sequence[str]:
        run, log = shlex.join(super().command()), shlex.join(self.formatting())
        return [
            "-ec",
            'printf %s "$PROPERTIES" >server.properties; printf %s "$KEYSTORE" >server.pem; '
            f"[ -e {self.kept}/meta.properties ] || {log}; exec {run}",
        ]
