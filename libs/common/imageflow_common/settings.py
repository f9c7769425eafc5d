"""Settings, from environment variables that begin with `IMAGEFLOW_`, and after them from files of the same names in the
directory that `IMAGEFLOW_SETTINGS_DIRECTORY` gives; all checked at start, all faults at once."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from .machine import cpu_limit, memory_limit

Port = Annotated[int, Field(ge=0, le=65535)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_IMAGE_SHARE_OF_MEMORY = 0.6
_BYTES_PER_PIXEL = 8


class ServerSettings(BaseSettings):
    """What every server takes."""

    model_config = SettingsConfigDict(env_prefix="IMAGEFLOW_", frozen=True)
    LIVE: ClassVar[frozenset[str]] = frozenset({"log_level"})
    """Those whose change in the directory counts without a restart."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` in a container."""
    port: Port = 9090
    """0 takes a free one."""
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    shared_directory: Path | None = None
    """A directory in memory (tmpfs) shared with the services on this machine; unset: everything travels inline."""
    max_message_bytes: PositiveInt = 256 * 1024 * 1024
    """The largest gRPC message, both ways."""
    shutdown_grace_seconds: PositiveSeconds = 20.0
    """How long running requests may take to finish after SIGTERM."""
    drain_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long to go on serving after SIGTERM while balancers notice."""
    settings_directory: Path | None = None
    """A directory with a file for each setting, named like its variable, such as a mounted ConfigMap; the environment
    comes first."""
    settings_poll_seconds: PositiveSeconds = 2.0
    """How often to look whether anything in that directory has changed."""


class ComponentSettings(ServerSettings):
    """What every component takes."""

    LIVE: ClassVar[frozenset[str]] = ServerSettings.LIVE | {
        "max_in_flight",
        "max_megapixels_in_flight",
        "timeout_seconds",
    }

    max_in_flight: PositiveInt = 50
    """Requests running and waiting, past which more are refused."""
    max_running: PositiveInt = Field(default_factory=lambda: math.ceil(cpu_limit()))
    """Requests computed at the same time; unless set, the cores that this process may use."""
    max_megapixels_in_flight: PositiveSeconds = Field(default_factory=lambda: min(400.0, _megapixels_held()))
    """Megapixels of inputs running and waiting, past which more are refused, but one image is always taken; unless set,
    400, or what the container's memory holds."""
    timeout_seconds: PositiveSeconds = 30.0
    """The longest a request may take."""
    max_image_bytes: PositiveInt = 64 * 1024 * 1024
    """The largest encoded image."""
    max_image_megapixels: PositiveSeconds = Field(default_factory=lambda: min(100.0, _megapixels_held()))
    """The largest image; unless set, 100 megapixels, or what the container's memory holds."""


def _megapixels_held() -> float:
    """Of the largest pixels (four channels of 16 bits), in the share of the memory that is for images."""
    return _IMAGE_SHARE_OF_MEMORY * memory_limit() / _BYTES_PER_PIXEL / 1e6


S = TypeVar("S", bound=BaseSettings)


def read_settings(kind: type[S]) -> S:
    """As they are now. Only servers' settings may be files. Raises ValueError, and OSError for a directory, or a file
    in it, that cannot be read."""
    directory = os.environ.get("IMAGEFLOW_SETTINGS_DIRECTORY")
    if not directory or not issubclass(kind, ServerSettings):
        return kind()
    setting_files(Path(directory))  # of one that is absent the library would only warn
    source: dict[str, Any] = {"_secrets_dir": directory}
    return kind(**source)


def setting_files(directory: Path) -> dict[str, bytes]:
    """By name in capitals. What is hidden, or a directory, is the kubelet's own. Raises OSError."""
    return {
        path.name.upper(): path.read_bytes()
        for path in directory.iterdir()
        if not (path.name.startswith(".") or path.is_dir())
    }


def variable(kind: type[BaseSettings], name: str) -> str:
    """What a setting is called outside."""
    return f"{kind.model_config.get('env_prefix', '')}{name}".upper()


def faults(kind: type[BaseSettings], error: Exception) -> list[str]:
    """What was wrong, each in one line that names the variable."""
    if isinstance(error, ValidationError):
        return [
            f"{variable(kind, '_'.join(map(str, each['loc'])))}: {each['msg']} (got {each['input']!r})"
            for each in error.errors()
        ]
    if isinstance(error, SettingsError):
        return [f"{error}: {error.__cause__}" if error.__cause__ else str(error)]
    return [f"{variable(kind, 'settings_directory')}: {error}"]


def load_settings(kind: type[S]) -> S:
    """Reads the settings, or ends the process with status 78 (EX_CONFIG) and every fault on standard error."""
    try:
        return read_settings(kind)
    except (ValueError, OSError) as exc:
        print(*faults(kind, exc), sep="\n", file=sys.stderr)
        raise SystemExit(78) from exc
