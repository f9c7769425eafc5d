"""The orchestrator's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr

from imageflow_common.settings import PositiveInt, PositiveSeconds, ServerSettings


class OrchestratorSettings(ServerSettings):
    """What the orchestrator takes besides what every server does."""

    LIVE: ClassVar[frozenset[str]] = ServerSettings.LIVE | {
        "max_running_executions",
        "max_running_executions_per_namespace",
        "max_waiting_executions",
        "max_bytes_in_flight",
        "max_pending_executions",
    }

    store_url: Annotated[str, Field(pattern=r"^(file://.+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?)$")] = (
        "file://./imageflow-data/store"
    )
    """Where objects are kept: `file://DIRECTORY`, or `s3://BUCKET` or `s3://BUCKET/PREFIX`."""
    s3_endpoint: str | None = None
    """The S3 server, as `https://HOST:PORT`; unset: that of AWS."""
    s3_public_endpoint: str | None = None
    """The same server as others reach it, for the URLs of `:sign`; unset: `s3_endpoint`."""
    s3_region: str = "us-east-1"
    """The bucket's region."""
    s3_addressing: Literal["path", "virtual"] | None = None
    """Whether the bucket stands in the path or in the host name; unset: `path` with an endpoint, `virtual` without."""
    s3_ca_file: Path | None = None
    """The certificates to trust (PEM) instead of the usual ones."""
    s3_create_bucket: bool = False
    """Whether to make the bucket at the start where there is none."""
    s3_access_key: SecretStr | None = None
    """With the next one; unset: what AWS's chain finds (its variables, its files, a role)."""
    s3_secret_key: SecretStr | None = None
    """Never shown."""
    s3_credentials_directory: Path | None = None
    """A folder with files `access-key` and `secret-key`, such as a mounted secret, instead of the two."""
    s3_max_connections: PositiveInt = 32
    """Connections to the S3 server."""
    s3_attempt_seconds: PositiveSeconds = 10.0
    """How long a request to the S3 server may take before it is sent again."""
    s3_deadline_seconds: PositiveSeconds = 30.0
    """How long it may take with all that."""
    s3_start_seconds: PositiveSeconds = 30.0
    """How long to wait at the start for an S3 server that cannot be reached."""
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
