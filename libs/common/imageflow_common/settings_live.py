"""Settings that change while the process runs, as the files of a mounted ConfigMap do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

from .logs import EventLog, set_level
from .settings import ServerSettings, faults, read_settings, setting_files, variable

log = EventLog(__name__)

S = TypeVar("S", bound=ServerSettings)


class LiveSettings(Generic[S]):
    """Follows the directory of the settings, where there is one. Changed files are checked together with all others:
    what is good and may change is handed to `take` and logged, what cannot change until a restart is only logged. Where
    anything is wrong nothing changes at all."""

    def __init__(self, settings: S, take: Callable[[S], None]) -> None:
        self.settings = settings
        """What counts now."""
        self.fault = ""
        """Why the files, as they are now, were not taken over; empty when they were."""
        self._take = take
        self._read = settings
        self._seen: dict[str, bytes] | None = None
        self._found: tuple[S, str] | None = None

    @property
    def directory(self) -> Path | None:
        return self.settings.settings_directory

    def degraded(self) -> list[str]:
        """For readiness."""
        return [f"changed settings were not taken over, those before stay: {self.fault}"] if self.fault else []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Looks every couple of seconds for the block."""
        if self.directory is None:
            yield
            return
        watching = asyncio.create_task(self._watch(self.directory))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, directory: Path) -> None:
        while True:
            await self._look(directory)
            await asyncio.sleep(self.settings.settings_poll_seconds)

    async def _look(self, directory: Path) -> None:
        kind, read, fault = type(self.settings), self.settings, ""
        try:
            files = await asyncio.to_thread(setting_files, directory)
            if files == self._seen:
                self._found = None
                return
            read = await asyncio.to_thread(read_settings, kind)
        except (OSError, ValueError) as exc:
            files, fault = None, "; ".join(faults(kind, exc))
        if self._found != (read, fault):  # what is read while they change is not found twice
            self._found = (read, fault)
            return
        self._seen, before, self.fault = files, self.fault, fault
        if not fault:
            self._take_over(read, files or {})
        elif fault != before:
            log.error("settings.refused", error=fault)

    def _take_over(self, read: S, files: dict[str, bytes]) -> None:
        kind = type(read)
        if unknown := files.keys() - {variable(kind, name) for name in kind.model_fields}:
            log.warning("settings.unknown", names=sorted(unknown))
        different = {name: getattr(read, name) for name in kind.model_fields if _differ(name, read, self.settings)}
        live = {name: value for name, value in different.items() if name in kind.LIVE}
        restart = [name for name in different if name not in kind.LIVE and _differ(name, read, self._read)]
        self._read = read
        if live:
            self.settings = self.settings.model_copy(update=live)
            self._take(self.settings)
            if "log_level" in live:
                set_level(self.settings.log_level)
            log.warning("settings.changed", changed={variable(kind, name): value for name, value in live.items()})
        if restart:  # without values, which may be secret
            log.warning("settings.needs_restart", names=[variable(kind, name) for name in restart])


def _differ(name: str, one: ServerSettings, other: ServerSettings) -> bool:
    return bool(getattr(one, name) != getattr(other, name))
