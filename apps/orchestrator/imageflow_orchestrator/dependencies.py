"""What pipelines need, how it is, and since when: for those who operate the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from imageflow_common.errors import ImageFlowError, ObjectNotFound
from imageflow_common.logs import EventLog
from imageflow_common.settings_live import LiveSettings
from imageflow_common.store import parse_key
from imageflow_common.store_observed import ObservedStore

from .catalog import LiveCatalog
from .records import now
from .settings import OrchestratorSettings

log = EventLog(__name__)

_EVERY_SECONDS: Final = 5.0
_STORE_SECONDS: Final = 5.0
_PROBE: Final = parse_key(".imageflow/probe")
"""Nothing is there: a store that says so works."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """One of them; `reason` is empty where all is well."""

    kind: str
    name: str
    since: datetime
    reason: str = ""


class Dependencies:
    """Looks every few seconds, and when asked; remembers when each came to be as it is."""

    def __init__(
        self,
        catalog: LiveCatalog,
        store: ObservedStore,
        broker: Callable[[], list[str]] | None,
        settings: LiveSettings[OrchestratorSettings] | None = None,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._broker = broker
        self._settings = settings
        self._known: dict[tuple[str, str], Dependency] = {}

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_SECONDS)

    async def look(self) -> list[Dependency]:
        """All of them as they are now, by kind and name."""
        found = {("component", name): reason for name, reason in self._catalog.reasons().items()}
        found["registry", "file"] = self._catalog.registry_fault
        found["store", "objects"] = await self._store_reason()
        if self._settings is not None and self._settings.directory is not None:
            found["settings", "directory"] = self._settings.fault
        if self._broker is not None:
            found["broker", "kafka"] = "; ".join(self._broker())
        for (kind, name), reason in found.items():
            before = self._known.get((kind, name))
            if before is None or bool(before.reason) != bool(reason):
                self._known[kind, name] = Dependency(kind, name, now(), reason)
            elif before.reason != reason:
                self._known[kind, name] = Dependency(kind, name, before.since, reason)
        self._known = {place: each for place, each in self._known.items() if place in found}
        return sorted(self._known.values(), key=lambda each: (each.kind, each.name))

    async def _store_reason(self) -> str:
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                await self._store.head(_PROBE)
        except ObjectNotFound:
            return "; ".join(self._store.degraded())  # it may be full
        except ImageFlowError as exc:
            return f"{exc.reason}: {exc.message}"
        except TimeoutError:
            return f"no answer within {_STORE_SECONDS:g} s"
        return ""
