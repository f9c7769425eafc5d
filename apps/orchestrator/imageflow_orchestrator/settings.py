"""The orchestrator's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from imageflow_common.settings import PositiveInt, PositiveSeconds, ServerSettings


class OrchestratorSettings(ServerSettings):
    """What the orchestrator takes besides what every server does."""

    store_url: Annotated[str, Field(pattern=r"^file://.+")] = "file://./imageflow-data/store"
    """Where objects are kept: `file://DIRECTORY`."""
    registry_file: Path | None = None
    """The component registry; unset: resize, detect and filter under their service names."""
    process_records: Literal["none", "failed", "all"] = "failed"
    """Which executions of `:process` leave a record."""
    max_running_executions: PositiveInt = 10
    """Executions that run at once."""
    max_running_executions_per_namespace: PositiveInt = 5
    """Executions of one namespace that run at once."""
    max_waiting_executions: PositiveInt = 100
    """Synchronous executions that wait for their turn, past which more are refused."""
    max_bytes_in_flight: PositiveInt = 512 * 1024 * 1024
    """Bytes of images handed over with calls, running and waiting, past which more are refused; one is always taken."""
    max_pending_executions: PositiveInt = 10_000
    """Asynchronous executions that have not ended, past which more are refused."""
    retention_hours: PositiveSeconds = 24.0 * 30
    """How long an ended execution's record and artifacts are kept."""
    janitor_period_seconds: PositiveSeconds = 300.0
    """How often expired executions are looked for."""
    max_image_bytes: PositiveInt = 64 * 1024 * 1024
    """The largest image that a pipeline takes."""
    max_upload_bytes: PositiveInt = 5 * 1024 * 1024 * 1024
    """The largest object that may be uploaded."""
    registry_poll_seconds: PositiveSeconds = 2.0
    """How often to look whether the registry file has changed."""
